"""Our training step beside the peers', by the TPU compiler's estimated cycles.

  python tools/bench_tpu.py [--only B/16:v5e-8:64] [--compiler_python PYTHON]

Compiles (no TPU is needed, see docs/preflight.md) one training step of each row: 224 px, 1000
classes, bfloat16 activations, class token, no dropout, soft cross-entropy, all-reduced gradients,
clip 1.0, SGD momentum with a bfloat16 accumulator. Cycles are the sum of `estimated_cycles` in the
optimised program, temporaries in GB, both a replica's. The peers' figures were measured in the same
way with jax 0.10.2 and libtpu 0.0.42.1 (big_vision and vision_transformer aren't on PyPI, so they
can't be compiled here); compare with ours of the same versions only. Nobody checked any of these
estimates on hardware.
"""

from __future__ import annotations

import argparse
import dataclasses
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf
import tqdm

import vit_keras
from vit_keras.models.build import build
from vit_keras.models.variants import variant_config
from vit_keras.preflight.compiling import Compiled, compile_for, compiler_versions
from vit_keras.preflight.lowering import lower_train_step
from vit_keras.preflight.slices import get_slice
from vit_keras.training import losses, parameter_settings, schedules, tasks
from vit_keras.training.optimizers import get_rule
from vit_keras.training.train_step import TrainStep


@dataclasses.dataclass(frozen=True)
class Row:
    """A workload and what others need for it.

    Attributes:
      variant: of ViT.
      slice: accelerator type.
      batch: a replica's.
      goal: million cycles to stay below.
      peers: name -> (million cycles, GB of temporaries).
    """

    variant: str
    slice: str
    batch: int
    goal: float
    peers: dict[str, tuple[float, float]]


ROWS = (
    Row(
        "B/16",
        "v5e-8",
        64,
        99,
        {
            "big_vision": (116.5, 3.80),
            "vision_transformer": (135.8, 6.53),
            "keras-hub 0.32": (137.2, 5.64),
            "plain Keras": (137.0, 5.64),
            "vit-keras 0.2.0": (745.6, 9.33),
        },
    ),
    Row("B/16", "v3-8", 64, 152, {"big_vision": (179.5, 3.78), "plain Keras": (199.0, 4.77)}),
    Row("B/16", "v6e-8", 64, 47, {"big_vision": (55.5, 3.76)}),
    Row("L/16", "v5e-8", 32, 140, {"big_vision": (158.8, 5.08)}),
    Row("S/16", "v5e-8", 128, 97, {"big_vision": (114.7, 3.77)}),
)


def step_program(row: Row, replicas: int, num_layers: int | None = None) -> bytes:
    """The workload's training step, lowered for one of `replicas`."""
    facts = {"image_size": 224, "classes": 1000, "num_layers": num_layers}
    model = build(variant_config(row.variant, **facts), dtype="mixed_bfloat16", name="vit")
    named = vit_keras.checkpoints.named_weights(model)
    step = TrainStep(
        model,
        named,
        tasks.classification(losses.get_loss("softmax")),
        get_rule("sgd"),
        schedules.Schedule(0.03, 10_000, "cosine", 500),
        parameter_settings.make_settings(list(named)),
        global_batch=row.batch * replicas,
        grad_norm_clip=1.0,
    )
    specs = {
        "image": tf.TensorSpec((row.batch, 224, 224, 3), tf.float32),
        "label": tf.TensorSpec((row.batch, 1000), tf.float32),
    }
    return lower_train_step(step, specs, replicas)


def format_row(row: Row, ours: Compiled) -> str:
    """Markdown lines: ours, then the peers with their ratio to ours."""
    cycles = ours.cycles / 1e6
    title = f"{row.variant}, batch {row.batch}, {row.slice}"
    verdict = "reached" if cycles <= row.goal else "not reached"
    lines = [
        f"| {title} | **ours** | {cycles:.1f} | {ours.temporaries / 1e9:.2f} | 1.00 | "
        f"{row.goal:g} {verdict} |"
    ]
    lines += [
        f"| | {name} | {peer:.1f} | {memory:.2f} | {peer / cycles:.2f} | |"
        for name, (peer, memory) in row.peers.items()
    ]
    return "\n".join(lines)


def main() -> None:
    """Prints the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="VARIANT:SLICE:BATCH of one row")
    parser.add_argument("--num_layers", type=int, help="cut the models, for quick experiments")
    parser.add_argument("--compiler_python", help="a Python with jax and libtpu (default: this)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="XLA option"
    )
    arguments = parser.parse_args()
    options = dict(option.split("=", 1) for option in arguments.option)
    versions = compiler_versions(arguments.compiler_python)
    names = [f"{row.variant}:{row.slice}:{row.batch}" for row in ROWS]
    if arguments.only is not None and arguments.only not in names:
        parser.error(f"--only is {arguments.only!r}; expected one of {', '.join(names)}.")
    rows = [row for row, name in zip(ROWS, names, strict=True) if arguments.only in (None, name)]
    print(f"jax {versions['jax']}, libtpu {versions['libtpu']}, TensorFlow {tf.__version__}")
    print(f"XLA options: {arguments.option or 'none'}\n")
    print("| workload | program | million cycles | GB temporaries | cycles / ours | goal |")
    print("| --- | --- | --- | --- | --- | --- |")
    for row in tqdm.tqdm(rows, unit="row", leave=False):
        target = get_slice(row.slice)
        program = step_program(row, target.replicas, arguments.num_layers)
        ours = compile_for(program, target, arguments.compiler_python, options=options)
        tqdm.tqdm.write(format_row(row, ours))
    print("\nEstimates of the compiler, never checked on hardware by us.")


if __name__ == "__main__":
    main()
