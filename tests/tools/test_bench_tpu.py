"""Peers of the TPU benchmark, lowered and compiled for real, with one block."""

import json
import subprocess
import sys
from pathlib import Path

import bench_tpu
import pytest

from vit_keras.preflight.compiling import CompilerError, compiler_versions
from vit_keras.slices import get_slice

PEERS = Path(bench_tpu.__file__).parent / "tpu_peers"
ROW = bench_tpu.Row("Ti/16", "v5e-8", 16, 1.0, {})


def _skip_without_compiler():
    try:
        compiler_versions()
    except CompilerError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_a_plain_keras_model_is_lowered(tmp_path):
    job = {"peer": "plain_keras", "width": 32, "depth": 1, "mlp_dim": 64, "num_heads": 2}
    job |= {"batch": 2, "replicas": 4, "program": str(tmp_path / "program.pb")}
    (tmp_path / "job.json").write_text(json.dumps(job))
    command = [sys.executable, str(PEERS / "tensorflow_step.py"), str(tmp_path / "job.json")]
    subprocess.run(command, check=True, capture_output=True)
    program = (tmp_path / "program.pb").read_bytes()
    assert b"all-reduce" in program


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["plain_keras", "big_vision"])
def test_costs_of_a_peer(peer):
    _skip_without_compiler()
    if peer == "big_vision":
        pytest.importorskip("flax")
        pytest.importorskip("optax")
    target = get_slice(ROW.slice)
    costs = bench_tpu.peer_costs(peer, ROW, target, sys.executable, sys.executable, num_layers=1)
    cycles, memory = costs
    # More than one block's products can take on the matrix units, and less than the chip's memory.
    tokens, width, mlp_dim = ROW.batch * 197, 192, 768
    flops = 3 * 2 * tokens * (4 * width**2 + 2 * width * mlp_dim)
    assert cycles * 1e6 > flops / (4 * 128 * 128 * 2)
    assert 0 < memory < 16


def test_a_peer_that_fails_says_why():
    target = get_slice(ROW.slice)
    with pytest.raises(
        ValueError, match=r"(?s)no_such_peer failed under.*KeyError: 'no_such_peer'"
    ):
        bench_tpu.peer_costs("no_such_peer", ROW, target, sys.executable, sys.executable)


def test_wrong_arguments_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_tpu.py", "--peers", "big_version"])
    with pytest.raises(SystemExit):
        bench_tpu.main()
    assert "'big_version' is no peer; expected some of keras_hub" in capsys.readouterr().err
