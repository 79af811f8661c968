"""Two real worker processes over loopback compute what one device does."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
from tiny_training import make_batches, make_step, run_steps, tiny_model

from vit_keras.training import get_strategy
from vit_keras.training.saving import Checkpoints


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.mark.slow
def test_two_workers(tmp_path):
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        script = str(pathlib.Path(__file__).with_name("worker.py"))
        with open(tmp_path / f"log{index}", "wb") as log:
            processes.append(
                subprocess.Popen(
                    [sys.executable, script, str(tmp_path)],
                    env={**os.environ, "TF_CONFIG": json.dumps(task)},
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        codes = [process.wait(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    logs = "\n".join((tmp_path / f"log{i}").read_text()[-2000:] for i in range(2))
    assert codes == [0, 0], logs

    step = make_step(tiny_model(), grad_norm_clip=0.5)
    expected = run_steps(get_strategy("one_device"), step, *make_batches(10))
    results = [json.loads((tmp_path / f"worker{i}.json").read_text()) for i in range(2)]
    assert [result["chief"] for result in results] == [True, False]
    assert results[0] | {"chief": 0} == results[1] | {"chief": 0}
    assert results[0]["bfloat16"] == [0.5, 0.5]  # the chief's values, which all workers begin with
    np.testing.assert_allclose(results[0]["losses"], expected[:, 0], rtol=1e-5)
    assert results[0]["test/examples"] == 80
    saved, _ = Checkpoints("").restore(Checkpoints(str(tmp_path / "checkpoints")).latest())
    for name, variable in step.weights.items():
        np.testing.assert_allclose(saved[f"weights/{name}"], variable.numpy(), rtol=1e-4, atol=1e-6)
