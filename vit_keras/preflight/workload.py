"""How much there is to compute: classes, steps and evaluations of a config, without its data."""

from __future__ import annotations

import dataclasses
import os
import re

import ml_collections
import numpy as np
from absl import logging

from vit_keras.training import schedules

# Classes and examples a split of the data sets that the configs name, as TFDS counts them.
_KNOWN = {
    "cifar10": (10, {"train": 50_000, "test": 10_000}),
    "cifar100": (100, {"train": 50_000, "test": 10_000}),
    "imagenet2012": (1_000, {"train": 1_281_167, "validation": 50_000}),
    "oxford_iiit_pet": (37, {"train": 3_680, "test": 3_669}),
    "oxford_flowers102": (102, {"train": 1_020, "test": 6_149, "validation": 1_020}),
    "imagenet21k": (21_843, {"train": 14_197_122, "full": 14_197_122}),
    # Captions without classes.
    "coco_captions": (1, {"train": 82_783, "val": 5_000, "test": 5_000, "restval": 30_504}),
    "sklearn_digits": (10, {"train": 1_347, "test": 450}),
    "sklearn_digits/digits_0_4": (5, {"train": 676, "test": 225}),
    "sklearn_digits/digits_5_9": (5, {"train": 671, "test": 225}),
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """What a run has to do.

    Attributes:
      classes: outputs of the head.
      total_steps: updates.
      warmup_steps: of them, until the peak learning rate.
      evaluations: passes over the evaluation split in the run.
      eval_examples: images in one such pass; None where nobody knows.
    """

    classes: int
    total_steps: int
    warmup_steps: int
    evaluations: int
    eval_examples: int | None


def get_workload(
    config: ml_collections.ConfigDict, classes: int | None = None, num_examples: int | None = None
) -> Workload:
    """The workload of a (complete) config.

    Args:
      config: of the run.
      classes: None for those of a known data set or a folder.
      num_examples: of the training split; None likewise. Needed only where the config counts in
        epochs.

    Raises:
      ValueError: where one of the two is needed and can't be inferred.
    """
    name = str(config.dataset or "").split(":")[0]
    known_classes, splits = _KNOWN.get(name) or _KNOWN.get(name.split("/")[0], (None, {}))
    if known_classes is None and config.dataset and os.path.isdir(config.dataset):
        known_classes, splits = _look_into(config)
    classes = classes or known_classes
    if classes is None:
        raise ValueError(
            f"classes of the data set {config.dataset!r} aren't known without preparing it; give "
            f"them: --classes=N (known: {', '.join(_KNOWN)}, and folders)."
        )
    num_examples = num_examples or _count(config.pp.train, splits)

    def steps(kind: str, default: int | None = None) -> int:
        values = {unit: config[f"{kind}_{unit}"] for unit in ("steps", "epochs", "examples")}
        if values["epochs"] is not None and num_examples is None:
            raise ValueError(
                f"config.{kind}_epochs is {values['epochs']}, but how many examples "
                f"{config.dataset!r} has isn't known; give it: --num_examples=N."
            )
        return schedules.to_steps(
            kind, **values, batch=config.batch, num_examples=num_examples or 0, default=default
        )

    total = steps("total")
    evaluations = 1 + (max(total - 1, 0) // config.eval_every if config.eval_every else 0)
    return Workload(
        classes, total, min(steps("warmup", 0), total), evaluations, _count(config.pp.test, splits)
    )


def to_compile(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """A copy of a complete config that builds the same programs, without files that aren't here.

    Weights change nothing about a program. Of FlexiViT's patch sizes the smallest alone is left,
    whose step is the costliest: a step's time is then an upper bound of the run's mean.
    """
    config = config.copy_and_resolve_references()
    if config.pretrained_dir is not None:
        name = config.model_or_filename or config.model.model_name
        if not os.path.exists(os.path.join(config.pretrained_dir, f"{name}.npz")):
            config.pretrained_dir = None
    if not os.path.exists(config.model.get("image_weights") or "."):
        config.model.image_weights = None
    if config.flexi.patch_sizes:
        smallest = min(config.flexi.patch_sizes, key=lambda size: np.prod(size))
        logging.info("Of the patch sizes the smallest is compiled: %s.", smallest)
        config.flexi.patch_sizes = (smallest,)
    return config


def _look_into(config) -> tuple[int, dict[str, int]]:
    from vit_keras import data

    source = data.get_source(config.dataset)
    splits = {}
    for split in (config.pp.train, config.pp.test):
        base = split.split("[")[0]
        splits[base] = source.num_examples(base)
    return source.num_classes, splits


def _count(split: str, splits: dict[str, int]) -> int | None:
    """Examples in a TFDS split expression such as `train[:98%]+validation`; None if unknown."""
    total = 0
    for part in split.split("+"):
        match = re.fullmatch(r"\s*(\w+)\s*(?:\[(-?\d+%?)?:(-?\d+%?)?\])?\s*", part)
        if not match or match[1] not in splits:
            return None
        size = splits[match[1]]
        first, last = (_position(text, size) for text in (match[2] or "0", match[3] or "100%"))
        total += max(0, last - first)
    return total


def _position(text: str, size: int) -> int:
    value = round(float(text[:-1]) / 100 * size) if text.endswith("%") else int(text)
    return max(0, min(size, value + size if value < 0 else value))
