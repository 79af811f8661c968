"""Searches the settings that trade time for memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator

import ml_collections

from vit_keras.preflight.check import preflight
from vit_keras.preflight.report import Report
from vit_keras.slices import Slice, get_slice
from vit_keras.training import config_defaults


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A setting that fits.

    Attributes:
      changes: config key -> value, to give as `--config.KEY=VALUE`.
      report: what preflight says of it.
    """

    changes: dict[str, object]
    report: Report


def suggest(
    config: ml_collections.ConfigDict,
    slice_name: str | Slice,
    *,
    progress: Callable[[str], None] = lambda stage: None,
    **options,
) -> list[Suggestion]:
    """Settings that fit, the fastest (images/s) first.

    The global batch is part of a recipe, so others are tried only where none fits at it: then it is
    halved until one does. At each batch, without and with rematerialisation, the fewest
    micro-batches that fit are looked for, then more of them as long as that is faster: tensors of
    smaller micro-batches may stay in the chip's fast memory. A bfloat16 momentum is tried too.
    Every trial is a compilation (cached).

    Args:
      config: where to start.
      slice_name: as for `preflight`.
      progress: called with what is tried.
      **options: of `preflight`.

    Raises:
      ValueError: as `preflight`, and when nothing fits.
    """
    target = slice_name if isinstance(slice_name, Slice) else get_slice(slice_name)
    config = config_defaults.complete(config)
    batch = config.batch - config.batch % target.replicas or target.replicas
    while batch >= target.replicas:
        found: list[Suggestion] = []
        for dtype in dict.fromkeys([config.optim_dtype, "bfloat16"]):
            for remat in (False, True):
                trials: list[Suggestion] = []
                needed = math.inf
                for accum in _accumulations(batch // target.replicas):
                    changes = {
                        "batch": batch,
                        "accum_steps": accum,
                        "model.remat": remat,
                        "optim_dtype": dtype,
                        "batch_eval": config.batch_eval - config.batch_eval % target.replicas
                        or target.replicas,
                    }
                    progress(", ".join(f"{k}={v}" for k, v in changes.items()))
                    report = preflight(_changed(config, changes), target, **options)
                    if not report.fits:
                        if report.memory["needed"] >= needed:
                            break  # what is too large isn't in the micro-batches
                        needed = report.memory["needed"]
                        continue
                    slower = bool(trials) and _rate(report) <= _rate(trials[-1].report)
                    trials.append(Suggestion(_differing(config, changes), report))
                    if slower:
                        break
                found += trials
            if found:
                return sorted(found, key=lambda suggestion: -_rate(suggestion.report))
        batch = batch // 2 // target.replicas * target.replicas
    raise ValueError(
        f"Nothing fits on {target.name}: not even {target.replicas} images, one a replica, with "
        "rematerialisation. A generation with more memory a chip may do."
    )


def _rate(report: Report) -> float:
    return report.step["images_per_s"]


def _accumulations(share: int) -> Iterator[int]:
    """Numbers of micro-batches that a replica's share can be split into: 1, 2, 4, ..."""
    number = 1
    while share % number == 0:
        yield number
        number *= 2


def _changed(config, changes):
    config = config.copy_and_resolve_references()
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        parent = config[group] if group else config
        with parent.ignore_type():
            parent[name] = value
    return config


def _differing(config, changes):
    def old(key):
        group, _, name = key.rpartition(".")
        return (config[group] if group else config).get(name)

    return {k: v for k, v in changes.items() if (old(k) or False) != (v or False)}
