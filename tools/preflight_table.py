"""The docs' table: does each model fit on each slice, and how fast should a step be?

  python tools/preflight_table.py [--models S/16,B/16] [--slices v3-8,v5e-8] [--whole_up_to=12]

Training at 224 px is tpu_configs/vit_s16_i1k.py with another model (Adam with a bfloat16 first
moment, mixup, clip), fine-tuning at 384 px tpu_configs/vit.py's recipe for ImageNet-1k (SGD).
Batches are per replica (a chip; on v2 and v3 a core), so a larger slice has a larger global batch,
and all slices of a generation run the same program: it is compiled once, and only the all-reduce is
modelled for each. On v5e and v6e S/16, B/16 and L/16 take a batch in two micro-batches, which is
faster there (docs/tpu_program.md). Models are compiled with 1 and with 2 blocks (2 and 3
where they take micro-batches and their last block is pruned) and continued in a straight line,
marked with ~; --whole_up_to=12 compiles those of up to 12 blocks whole, which takes minutes each.

Results are cached, so the command can be stopped and started again. A compiler's estimates, never
checked on hardware by us.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import ml_collections
import tqdm

from tpu_configs import vit, vit_s16_i1k
from vit_keras.preflight import compiling
from vit_keras.preflight.lowering import lower
from vit_keras.preflight.report import Report, make_report
from vit_keras.preflight.workload import get_workload
from vit_keras.slices import Slice, get_slice
from vit_keras.training import config_defaults


@dataclasses.dataclass(frozen=True)
class Size:
    """How a model is run.

    Attributes:
      num_layers: its blocks.
      batch: images a replica at 224 px; a quarter of it at 384 px.
      remat: whether blocks are computed again in the backward pass.
      micro_batches: on chips in whose fast memory tensors of half a batch stay, and those of a
        whole one don't.
    """

    num_layers: int
    batch: int
    remat: bool = False
    micro_batches: int = 1


MODELS = {
    "S/16": Size(12, 128, micro_batches=2),
    "B/16": Size(12, 64, micro_batches=2),
    "L/16": Size(24, 32, micro_batches=2),
    "H/14": Size(32, 16, remat=True),
    "g/14": Size(40, 16, remat=True),
}
LARGE_FAST_MEMORY = ("v5e", "v6e")
SLICES = ("v3-8", "v4-8", "v5e-8", "v5e-256", "v5p-8", "v6e-8")


def make_config(model: str, pixels: int, target: Slice) -> ml_collections.ConfigDict:
    """The experiment of a row."""
    size = MODELS[model]
    if pixels == 224:
        config, batch = vit_s16_i1k.get_config(), size.batch
    else:
        config, batch = vit.get_config("b16,imagenet2012"), size.batch // 4
        config.pretrained_dir = None
    config = config_defaults.complete(config)
    config.model.model_name = f"ViT-{model.replace('/', '_')}"
    config.model.remat = size.remat
    config.dtype = "mixed_bfloat16"
    config.batch = config.batch_eval = batch * target.replicas
    large = target.generation.name in LARGE_FAST_MEMORY
    config.accum_steps = size.micro_batches if large else 1
    return config


def few_blocks(config: ml_collections.ConfigDict) -> tuple[int, int]:
    """The numbers of blocks that are compiled in place of all.

    A single block that is pruned leaves so much room in the fast memory, where micro-batches are to
    stay, that its program says little about larger ones.
    """
    pruned = config.prune_last_block and config.model.get("classifier", "token") == "token"
    return (2, 3) if pruned and config.accum_steps > 1 else (1, 2)


def compile_step(
    config: ml_collections.ConfigDict, target: Slice, cache: compiling.Cache, python: str | None
) -> compiling.Compiled:
    """The training step of `config` as the compiler for the slice's generation sees it."""
    facts = {
        "config": config.to_dict(),
        "generation": target.generation.name,
        "versions": compiling.compiler_versions(python),
        "source": compiling.source_hash(),
    }

    def make():
        programs = lower(config, get_workload(config), target.replicas)
        keras.backend.clear_session()
        compiled = compiling.compile_for(
            programs.train, target, python, loop_trips=config.accum_steps
        )
        return dataclasses.asdict(compiled)

    return compiling.Compiled(**{**cache.get_or_make(facts, make), "operations": ()})


def continued(
    few: compiling.Compiled, more: compiling.Compiled, blocks: tuple[int, int], wanted: int
) -> compiling.Compiled:
    """What a program of `wanted` equal blocks costs, from programs with `blocks` of them."""
    if not (few.fits and more.fits):
        return more

    def line(name):
        low, high = getattr(few, name), getattr(more, name)
        return round(low + (high - low) * (wanted - blocks[0]) / (blocks[1] - blocks[0]))

    names = ("arguments", "temporaries", "peak", "flops", "bytes_accessed", "cycles")
    figures = {name: line(name) for name in (*names, "all_reduce_bytes")}
    return compiling.Compiled(fits=True, **figures)


def format_cell(report: Report, estimated: bool) -> str:
    """A row's figures, in Markdown."""
    mark = "~" if estimated else ""
    gib = 1024**3
    peak, available = report.memory.get("peak"), report.memory["available"] / gib
    if peak is None or peak / gib > available:
        needed = (peak or report.memory["needed"]) / gib
        return f"no ({mark}{needed:.1f} of {available:.1f} GiB) | | | | |"
    step = report.step
    return (
        f"{mark}{peak / gib:.1f} of {available:.1f} GiB | {mark}{step['seconds'] * 1e3:.0f} | "
        f"{mark}{step['images_per_s_per_chip']:.0f} | {mark}{step['images_per_s']:.0f} | "
        f"{mark}{100 * step['matrix_unit_share']:.0f} % |"
    )


def main() -> None:
    """Prints the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--slices", default=",".join(SLICES))
    parser.add_argument(
        "--whole_up_to", type=int, default=0, metavar="BLOCKS", help="compile such models whole"
    )
    parser.add_argument("--compiler_python", help="a Python with jax and libtpu (default: this)")
    parser.add_argument("--cache_dir", help="default: $VIT_KERAS_CACHE/preflight")
    arguments = parser.parse_args()
    models = arguments.models.split(",")
    if unknown := [model for model in models if model not in MODELS]:
        parser.error(f"--models has {', '.join(unknown)}; expected some of {', '.join(MODELS)}.")
    targets = [get_slice(name) for name in arguments.slices.split(",")]
    cache = compiling.Cache(arguments.cache_dir)
    python = arguments.compiler_python
    titles = ("model", "pixels", "slice", "batch a replica", "memory", "ms a step")
    titles += ("images/s a chip", "images/s", "matrix units")
    print("|".join(("", *titles, "")) + "\n" + "| --- " * len(titles) + "|")
    rows = [(model, pixels, t) for model in models for pixels in (224, 384) for t in targets]
    first = {}
    for model, pixels, target in tqdm.tqdm(rows, unit="row", leave=False):
        # The program is the same on every slice of a generation: compiled for the first of them.
        compiled_for = first.setdefault(target.generation.name, target)
        depth = MODELS[model].num_layers
        config = make_config(model, pixels, compiled_for)
        estimated = depth > arguments.whole_up_to
        if estimated:
            parts = []
            for blocks in few_blocks(config):
                config.model.num_layers = blocks
                parts.append(compile_step(config, compiled_for, cache, python))
            compiled = continued(*parts, few_blocks(config), depth)
        else:
            compiled = compile_step(config, compiled_for, cache, python)
        config = make_config(model, pixels, target)
        report = make_report(config, target, get_workload(config), compiled, None, {})
        batch = f"{report.batch_per_replica}{', remat' if MODELS[model].remat else ''}"
        tqdm.tqdm.write(
            f"| {model} | {pixels} | {target.name} | {batch} | {format_cell(report, estimated)}"
        )


if __name__ == "__main__":
    main()
