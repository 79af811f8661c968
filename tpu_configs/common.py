"""What the experiments share: data sets with their splits and lengths, models with their files."""

from __future__ import annotations

import os

import ml_collections

from vit_keras.models.variants import split_variant
from vit_keras.names import unknown_name
from vit_keras.training import config_defaults

# Data set: steps, training split, test split, pixels (the original's vit_jax/configs/common.py).
# A little of the training split is left out for validation.
DATASETS = {
    "cifar10": (10_000, "train[:98%]", "test", 384),
    "cifar100": (10_000, "train[:98%]", "test", 384),
    "imagenet2012": (20_000, "train[:99%]", "validation", 384),
    "oxford_iiit_pet": (500, "train", "test", 384),
    "oxford_flowers102": (500, "train", "test", 384),
}
# For a folder {train,test}/<class>/*.jpg|png.
FOLDER = (500, "train", "test", 384)

# Dropout of the original's fine-tuning; 0 for the others.
DROPOUT = {"ViT-L_16": 0.1, "ViT-H_14": 0.1, "R50+ViT-B_16": 0.1, "R50+ViT-L_32": 0.1}


def fine_tuning(model_name: str, dataset: str) -> ml_collections.ConfigDict:
    """The original's fine-tuning of a published checkpoint `<model_name>.npz` on `dataset`.

    Raises:
      ValueError: for a data set that is neither in `DATASETS` nor a folder.
    """
    if dataset not in DATASETS and not os.path.isdir(dataset):
        raise unknown_name("data set", dataset, [*DATASETS, "a folder {train,test}/<class>/*.jpg"])
    steps, train, test, pixels = DATASETS.get(dataset, FOLDER)
    config = config_defaults.get_config()
    config.model.model_name = model_name
    if model_name in DROPOUT:
        config.model.dropout = DROPOUT[model_name]
    config.dataset = dataset
    config.total_steps = steps
    config.warmup_steps = min(500, steps // 5)
    config.pp.update({"train": train, "test": test, "crop": pixels})
    return config


def published_name(model: str) -> str:
    """`b16`, `B/16` and the like to `ViT-B_16`, as the published files are called.

    Raises:
      ValueError: for what isn't the name of a plain ViT.
    """
    found = split_variant(model)
    if found is None:
        raise unknown_name("model", model, ["ti16", "s16", "s32", "b8", "b16", "b32", "l16", "h14"])
    return f"ViT-{found[0]}_{found[1]}"


def split_arguments(arguments: str, usage: str) -> list[str]:
    """The comma-separated arguments behind `--config=FILE:`.

    Raises:
      ValueError: if there aren't as many as in `usage`.
    """
    parts = [part.strip() for part in (arguments or "").split(",")]
    if len(parts) != len(usage.split(",")) or not all(parts):
        raise ValueError(f"--config arguments are {arguments!r}; expected {usage!r}.")
    return parts
