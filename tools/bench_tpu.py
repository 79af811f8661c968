"""Our training step beside the peers', by the TPU compiler's estimated cycles.

  python tools/bench_tpu.py [--only B/16:v5e-8:64] [--peers keras_hub,big_vision]

Compiles (no TPU is needed, see docs/preflight.md) one training step of each row: 224 px, 1000
classes, bfloat16 activations, class token, no dropout, soft cross-entropy, all-reduced gradients,
clip 1.0, SGD momentum with a bfloat16 accumulator. Ours takes the batch in as many micro-batches as
is fastest (their gradients are added, and one update is made; --micro_batches=1 for the whole batch
at once). Cycles are the sum of `estimated_cycles` in the
optimised program, loops as often as they run; temporaries in GB; both a replica's.

Peers named by `--peers` are compiled for the same workload in the same run (tools/tpu_peers/):

  keras_hub        keras-hub from PyPI
  plain_keras      Keras' MultiHeadAttention, Dense and LayerNormalization, as one writes a ViT
  vit_keras_0_2_0  PyPI's vit-keras 0.2.0; needs an environment of its own, since it takes our name
  big_vision       big_vision's published architecture in flax (it isn't on PyPI itself)

`--peer_python keras_hub=PYTHON` names the interpreter that has a peer's package (default: this one;
big_vision: --compiler_python). Of peers that aren't compiled, the rows "measured earlier" are
printed: by the same workload with jax 0.10.2 and libtpu 0.0.42.1, so compare only with ours of
these versions. Nobody checked any of these estimates on hardware.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tqdm

import vit_keras
from vit_keras.models.build import build
from vit_keras.models.variants import variant_config
from vit_keras.preflight.compiling import compile_for, compiler_versions
from vit_keras.preflight.hlo_costs import read_costs
from vit_keras.preflight.lowering import lower_train_step
from vit_keras.slices import Slice, get_slice
from vit_keras.training import losses, parameter_settings, schedules, tasks
from vit_keras.training.optimizers import get_rule
from vit_keras.training.pruning import prune_last_block
from vit_keras.training.train_step import TrainStep

PEERS = ("keras_hub", "plain_keras", "vit_keras_0_2_0", "big_vision")
_SCRIPTS = Path(__file__).resolve().parent / "tpu_peers"


@dataclasses.dataclass(frozen=True)
class Row:
    """A workload and what others need for it.

    Attributes:
      variant: of ViT.
      slice: accelerator type.
      batch: a replica's.
      goal: million cycles to stay below.
      measured: peer -> (million cycles, GB of temporaries), of an earlier day.
      micro_batches: that our step takes the batch in, with one update (`config.accum_steps`).
      options: of XLA that make our step faster there, which users set by LIBTPU_INIT_ARGS.
    """

    variant: str
    slice: str
    batch: int
    goal: float
    measured: dict[str, tuple[float, float]]
    micro_batches: int = 1
    options: tuple[str, ...] = ()


# Two micro-batches where that is faster: on v5e and v6e tensors of half a batch stay in the chip's
# 128 MiB of fast memory, which v3 hasn't.
ROWS = (
    Row(
        "B/16",
        "v5e-8",
        64,
        99,
        {
            "big_vision": (116.5, 3.80),
            "vision_transformer": (135.8, 6.53),
            "keras_hub": (137.2, 5.64),
            "plain_keras": (137.0, 5.64),
            "vit_keras_0_2_0": (745.6, 9.33),
        },
        micro_batches=2,
    ),
    Row(
        "B/16",
        "v3-8",
        64,
        152,
        {"big_vision": (179.5, 3.78), "plain_keras": (199.0, 4.77)},
        options=(
            "xla_tpu_prefuse_self_attention=true",
            "xla_tpu_enable_multi_level_output_dot_dot_fusion=true",
        ),
    ),
    Row("B/16", "v6e-8", 64, 47, {"big_vision": (55.5, 3.76)}, micro_batches=2),
    Row(
        "L/16",
        "v5e-8",
        32,
        140,
        {"big_vision": (158.8, 5.08)},
        micro_batches=2,
        options=("xla_tpu_scoped_vmem_limit_kib=28672",),
    ),
    Row("S/16", "v5e-8", 128, 97, {"big_vision": (114.7, 3.77)}, micro_batches=2),
)


def step_program(row: Row, replicas: int, num_layers: int | None = None) -> bytes:
    """The workload's training step, lowered for one of `replicas`."""
    facts = {"image_size": 224, "classes": 1000, "num_layers": num_layers}
    model = build(variant_config(row.variant, **facts), dtype="mixed_bfloat16", name="vit")
    prune_last_block(model)  # as training does
    named = vit_keras.checkpoints.named_weights(model)
    step = TrainStep(
        model,
        named,
        tasks.classification(losses.get_loss("softmax")),
        get_rule("sgd"),
        schedules.Schedule(0.03, 10_000, "cosine", 500),
        parameter_settings.make_settings(list(named)),
        global_batch=row.batch * replicas,
        accum_steps=row.micro_batches,
        grad_norm_clip=1.0,
    )
    specs = {
        "image": tf.TensorSpec((row.batch, 224, 224, 3), tf.float32),
        "label": tf.TensorSpec((row.batch, 1000), tf.float32),
    }
    return lower_train_step(step, specs, replicas)


def program_costs(
    whose: str,
    program: bytes,
    target: Slice,
    compiler_python: str,
    options: dict[str, str] | None,
    micro_batches: int = 1,
) -> tuple[float, float]:
    """Million cycles and GB of temporaries of a step lowered from TensorFlow.

    Raises:
      ValueError: where it doesn't fit; says `whose` it is.
    """
    compiled = compile_for(
        program, target, compiler_python, loop_trips=micro_batches, options=options
    )
    if not compiled.fits:
        needed = compiled.memory_needed / 1e9
        raise ValueError(f"{whose} needs {needed:.2f} GB, more than there is.")
    return compiled.cycles / 1e6, compiled.temporaries / 1e9


def _pairs(options: Sequence[str]) -> dict[str, str]:
    return dict(option.split("=", 1) for option in options)


def peer_costs(
    peer: str,
    row: Row,
    target: Slice,
    python: str,
    compiler_python: str,
    num_layers: int | None = None,
    options: dict[str, str] | None = None,
) -> tuple[float, float]:
    """Million cycles and GB of temporaries of a peer's step.

    Args:
      peer: one of `PEERS`.
      row: the workload.
      target: the row's slice.
      python: an interpreter that has the peer's package.
      compiler_python: one that has jax and libtpu.
      num_layers: to cut the model to.
      options: of XLA.

    Raises:
      ValueError: where the peer's script fails (with its last words), or its step doesn't fit.
    """
    facts = variant_config(row.variant)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        job = {
            "peer": peer,
            "width": facts.hidden_size,
            "depth": num_layers or facts.num_layers,
            "mlp_dim": facts.mlp_dim,
            "num_heads": facts.num_heads,
            "batch": row.batch,
            "replicas": target.replicas,
            "topology": target.topology,
            "topology_options": target.topology_options,
            "options": options or {},
            "program": str(folder / "program.pb"),
            "hlo": str(folder / "optimised.txt"),
            "result": str(folder / "result.json"),
        }
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        name = "big_vision_step.py" if peer == "big_vision" else "tensorflow_step.py"
        done = subprocess.run(
            [python, str(_SCRIPTS / name), str(folder / "job.json")],
            cwd=folder,  # where no other vit_keras is found first
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            words = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise ValueError(f"{peer} failed under {python}:\n{words}")
        if peer != "big_vision":
            program = (folder / "program.pb").read_bytes()
            return program_costs(peer, program, target, compiler_python, options)
        cycles = read_costs((folder / "optimised.txt").read_text(encoding="utf-8")).cycles
        temporaries = json.loads((folder / "result.json").read_text())["temporaries"]
    return cycles / 1e6, temporaries / 1e9


def format_line(what: str, name: str, costs: tuple[float, float], ours: float, goal: str) -> str:
    """A line of the Markdown table; `ours` are our million cycles."""
    cycles, memory = costs
    return f"| {what} | {name} | {cycles:.1f} | {memory:.2f} | {cycles / ours:.2f} | {goal} |"


def main() -> None:
    """Prints the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="VARIANT:SLICE:BATCH of one row")
    parser.add_argument("--peers", default="", help=f"of {','.join(PEERS)}")
    parser.add_argument(
        "--peer_python",
        action="append",
        default=[],
        metavar="PEER=PYTHON",
        help="interpreter that has a peer's package",
    )
    parser.add_argument("--num_layers", type=int, help="cut the models, for quick experiments")
    parser.add_argument("--micro_batches", type=int, help="of ours, instead of the fastest number")
    parser.add_argument("--compiler_python", help="a Python with jax and libtpu (default: this)")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="XLA option for all programs (default: none, and ours once more with the row's own)",
    )
    arguments = parser.parse_args()
    options = _pairs(arguments.option)
    peers = [peer for peer in arguments.peers.split(",") if peer]
    pythons = dict(pair.partition("=")[::2] for pair in arguments.peer_python)
    if unknown := [peer for peer in (*peers, *pythons) if peer not in PEERS]:
        parser.error(f"{unknown[0]!r} is no peer; expected some of {', '.join(PEERS)}.")
    if "vit_keras_0_2_0" in peers and "vit_keras_0_2_0" not in pythons:
        parser.error("vit_keras_0_2_0 needs --peer_python vit_keras_0_2_0=PYTHON.")
    compiler_python = arguments.compiler_python or sys.executable
    pythons.setdefault("big_vision", compiler_python)
    versions = compiler_versions(compiler_python)
    names = [f"{row.variant}:{row.slice}:{row.batch}" for row in ROWS]
    if arguments.only is not None and arguments.only not in names:
        parser.error(f"--only is {arguments.only!r}; expected one of {', '.join(names)}.")
    rows = [row for row, name in zip(ROWS, names, strict=True) if arguments.only in (None, name)]
    print(f"jax {versions['jax']}, libtpu {versions['libtpu']}, TensorFlow {tf.__version__}")
    named = [*arguments.option, versions.get("LIBTPU_INIT_ARGS", "")]
    print(f"XLA options: {' '.join(filter(None, named)) or 'none'}\n")
    print("| workload | program | million cycles | GB temporaries | cycles / ours | goal |")
    print("| --- | --- | --- | --- | --- | --- |")
    failures = []
    for row in tqdm.tqdm(rows, unit="row", leave=False):
        target = get_slice(row.slice)
        row = dataclasses.replace(row, micro_batches=arguments.micro_batches or row.micro_batches)
        program = step_program(row, target.replicas, arguments.num_layers)
        title = f"{row.variant}, batch {row.batch}, {row.slice}"
        halves = f", {row.micro_batches} micro-batches" if row.micro_batches > 1 else ""
        cycles = None  # ours without the row's options, which peers are compared with
        for own in ([], row.options) if row.options and not options else ([],):
            costs = program_costs(
                "ours",
                program,
                target,
                compiler_python,
                {**options, **_pairs(own)},
                row.micro_batches,
            )
            cycles = cycles or costs[0]
            verdict = f"{row.goal:g} {'reached' if costs[0] <= row.goal else 'not reached'}"
            verdict = f"cut to {arguments.num_layers} blocks" if arguments.num_layers else verdict
            name = f"**ours**{halves}{', with ' if own else ''}{', '.join(own)}"
            tqdm.tqdm.write(format_line("" if own else title, name, costs, cycles, verdict))
        for peer in peers:
            python = pythons.get(peer, sys.executable)
            try:
                costs = peer_costs(
                    peer, row, target, python, compiler_python, arguments.num_layers, options
                )
            except ValueError as error:
                failures.append(f"{title}, {peer}")
                tqdm.tqdm.write(f"| | {peer} | not compiled | | | |\n{error}", file=sys.stderr)
                continue
            tqdm.tqdm.write(format_line("", peer, costs, cycles, ""))
        for peer, costs in row.measured.items():
            # Whole models, without options: not comparable with anything else.
            if peer not in peers and not arguments.num_layers and not options:
                tqdm.tqdm.write(format_line("", f"{peer}, measured earlier", costs, cycles, ""))
    print("\nEstimates of the compiler, never checked on hardware by us.")
    if failures:
        sys.exit("Not compiled: " + "; ".join(failures))


if __name__ == "__main__":
    main()
