"""`preflight`: a config and a slice in, a `Report` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras
import ml_collections
import tensorflow as tf

from vit_keras.preflight import compiling
from vit_keras.preflight.compiling import Cache, Compiled, compile_for
from vit_keras.preflight.lowering import check_batches, lower
from vit_keras.preflight.report import Report, make_report
from vit_keras.preflight.workload import get_workload
from vit_keras.slices import Slice, get_slice
from vit_keras.training import config_defaults

# What changes nothing about the programs, only where and how often they run.
_IRRELEVANT = (
    "tfds_data_dir",
    "tfds_manual_dir",
    "shuffle_buffer",
    "prefetch",
    "checkpoint_every",
    "keep_checkpoints",
    "keep_checkpoint_every",
    "evaluators",
    "profile",
    "strategy",
    "tpu",
    "num_devices",
)


def preflight(
    config: ml_collections.ConfigDict,
    slice_name: str | Slice,
    *,
    classes: int | None = None,
    num_examples: int | None = None,
    python: str | None = None,
    cache: Cache | None = None,
    progress: Callable[[str], None] = lambda stage: None,
) -> Report:
    """Compiles the steps of a run for one replica of a slice, and says what follows.

    Args:
      config: of a training, as `training.train` takes it.
      slice_name: such as "v5litepod-8", "v5e-8" or "v5e:2x4".
      classes: of the data set; None for a known one's.
      num_examples: of the training split, where the config counts in epochs; None likewise.
      python: a Python with jax and libtpu; None for this one.
      cache: of results; None for the default one.
      progress: called with the name of each stage as it begins.

    Raises:
      ValueError: an unknown slice, a batch that doesn't divide, or a config that wouldn't train.
      CompilerError: the compiler is missing (says how to get it) or failed.
    """
    target = slice_name if isinstance(slice_name, Slice) else get_slice(slice_name)
    config = config_defaults.complete(config)
    check_batches(config, target.replicas)
    workload = get_workload(config, classes, num_examples)
    versions = {
        **compiling.compiler_versions(python),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    cache = cache or Cache()
    relevant = {k: v for k, v in config.to_dict().items() if k not in _IRRELEVANT}
    facts = {
        "config": relevant,
        "classes": workload.classes,
        "total_steps": workload.total_steps,
        "warmup_steps": workload.warmup_steps,
        "slice": target.topology,
        "versions": versions,
        "source": compiling.source_hash(),
    }

    def make():
        progress("build and lower")
        programs = lower(config, workload, target.replicas)
        keras.backend.clear_session()
        progress("compile the training step")
        train = compile_for(programs.train, target, python, loop_trips=config.accum_steps)
        progress("compile the evaluation step")
        evaluate = compile_for(programs.evaluate, target, python) if train.fits else None
        return {
            "train": dataclasses.asdict(train),
            "evaluate": evaluate and dataclasses.asdict(evaluate),
        }

    found = cache.get_or_make(facts, make)
    train = _compiled(found["train"])
    evaluate = found["evaluate"] and _compiled(found["evaluate"])
    return make_report(config, target, workload, train, evaluate, versions)


def _compiled(stored: dict) -> Compiled:
    operations = tuple((name, cycles) for name, cycles in stored["operations"])
    return Compiled(**{**stored, "operations": operations})
