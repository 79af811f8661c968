"""What the experiments share: data sets with their splits and lengths, models, pipelines."""

from __future__ import annotations

import os

import ml_collections

from tpu_configs import runlocal as local
from vit_keras.names import unknown_name
from vit_keras.training import config_defaults

# Data set: steps, training split, test split (the original's vit_jax/configs/common.py; for the two
# Oxford ones arXiv 2010.11929, table 4). A little of the training split is left out to validate.
DATASETS = {
    "cifar10": (10_000, "train[:98%]", "test"),
    "cifar100": (10_000, "train[:98%]", "test"),
    "imagenet2012": (20_000, "train[:99%]", "validation"),
    "oxford_iiit_pet": (500, "train", "test"),
    "oxford_flowers102": (500, "train", "test"),
}
# For a folder {train,test}/<class>/*.jpg|png.
FOLDER = (500, "train", "test")

# As the command line calls them, and as the published files are called.
VITS = {
    "ti16": "ViT-Ti_16",
    "s16": "ViT-S_16",
    "s32": "ViT-S_32",
    "b8": "ViT-B_8",
    "b16": "ViT-B_16",
    "b32": "ViT-B_32",
    "l16": "ViT-L_16",
    "l32": "ViT-L_32",
    "h14": "ViT-H_14",
}
HYBRIDS = {
    "r_ti16": "R+ViT-Ti_16",
    "r26_s32": "R26+ViT-S_32",
    "r26_b32": "R26+ViT-B_32",
    "r50_b16": "R50+ViT-B_16",
    "r50_l32": "R50+ViT-L_32",
}
MIXERS = {"mixer_b16": "Mixer-B_16", "mixer_b32": "Mixer-B_32", "mixer_l16": "Mixer-L_16"}

# Dropout of the original's fine-tuning; 0 for the others.
DROPOUT = {"ViT-L_16": 0.1, "ViT-H_14": 0.1, "R50+ViT-B_16": 0.1, "R50+ViT-L_32": 0.1}

# AugReg's levels (arXiv 2106.10270, section 3.1): RandAugment's layers and magnitude, and mixup.
AUGMENTATIONS = {
    "none": (None, 0.0),
    "light1": ((2, 0), 0.0),
    "light2": ((2, 10), 0.2),
    "medium1": ((2, 15), 0.2),
    "medium2": ((2, 15), 0.5),
    "strong1": ((2, 20), 0.5),
    "strong2": ((2, 20), 0.8),
}


def fine_tuning(
    model_name: str, dataset: str, size: int, runlocal: bool
) -> ml_collections.ConfigDict:
    """The original's fine-tuning of a published checkpoint `<model_name>.npz` on `dataset`.

    Raises:
      ValueError: for a data set that is neither in `DATASETS` nor a folder.
    """
    if dataset not in DATASETS and not os.path.isdir(dataset):
        raise unknown_name("data set", dataset, [*DATASETS, "a folder {train,test}/<class>/*.jpg"])
    steps, train, test = DATASETS.get(dataset, FOLDER)
    config = config_defaults.get_config()
    config.dtype = "mixed_bfloat16"
    config.model.model_name = model_name
    if model_name in DROPOUT:
        config.model.dropout = DROPOUT[model_name]
    config.dataset = dataset
    config.total_steps = steps
    config.warmup_steps = min(500, steps // 5)
    config.pp.update({"train": train, "test": test, "crop": local.pixels(size, runlocal)})
    return config


def pre_training(size: int, runlocal: bool) -> ml_collections.ConfigDict:
    """What the pre-trainings share: fresh weights, no micro-batches, rare evaluations and saves."""
    config = config_defaults.get_config()
    config.dtype = "mixed_bfloat16"
    config.pretrained_dir = None
    config.pp.crop = local.pixels(size, runlocal)
    config.accum_steps = 1
    config.shuffle_buffer = 250_000
    config.progress_every = 50
    config.eval_every = 2_500
    return config


def imagenet1k(config: ml_collections.ConfigDict) -> None:
    """ImageNet-1k with big_vision's splits: 1 % of the training split is left out."""
    config.dataset = "imagenet2012"
    config.pp.train, config.pp.test = "train[:99%]", "validation"


def big_vision_adam(config: ml_collections.ConfigDict) -> None:
    """big_vision's usual: Adam, bfloat16 momentum, decay that follows the schedule, cosine."""
    config.optimizer = "adam"
    config.base_lr = 1e-3
    config.weight_decay = 1e-4
    config.warmup_steps = 10_000


def big_vision_pipelines(
    config: ml_collections.ConfigDict, randaug: tuple[int, int] | None = None
) -> None:
    """Inception crop, mirroring and RandAugment (layers, magnitude); centre crop to evaluate."""
    size = config.pp.crop
    augment = "" if randaug is None else f"|randaug({randaug[0]}, {randaug[1]})"
    config.pp.train_ops = f"decode_jpeg_and_inception_crop({size})|flip_lr{augment}"
    config.pp.test_ops = central_crop(size)


def central_crop(size: int) -> str:
    """Resizes the smaller side to 8/7 of `size` and crops the centre."""
    return f"decode|resize_small({size * 8 // 7})|central_crop({size})"


def flexible(config: ml_collections.ConfigDict, runlocal: bool) -> None:
    """FlexiViT's patch sizes: at 240 px, grids of 5 to 30 (arXiv 2212.08013, section 3.2)."""
    config.flexi.patch_sizes = (48, 40, 30, 24, 20, 16, 15, 12, 10, 8)
    config.flexi.eval_patch_sizes = (30, 16, 8)
    if runlocal:
        config.flexi.patch_sizes = (32, 12)
        config.flexi.eval_patch_sizes = (16,)
