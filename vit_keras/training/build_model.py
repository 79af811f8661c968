"""From a config to the model that a run begins with."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import keras
import ml_collections
import tensorflow as tf
from absl import logging

import vit_keras
from vit_keras import compat
from vit_keras.checkpoints import augreg_index
from vit_keras.models.build import Config, build
from vit_keras.models.regularization import Regularization
from vit_keras.models.resnet_stem import ResNetStem
from vit_keras.models.two_towers import TwoTowersConfig
from vit_keras.models.variants import TWO_TOWER_VARIANTS, canonical_variant, variant_config
from vit_keras.names import unknown_name

_REGULARIZATION = tuple(Regularization.__dataclass_fields__)
# What `config.model` may say of a model that is read from a checkpoint.
_OF_CHECKPOINT = ("classifier", "patch_size", "representation_size", *_REGULARIZATION)


def build_model(config: ml_collections.ConfigDict, classes: int) -> keras.Model:
    """The model that `config` describes, with pretrained weights unless `pretrained_dir` is None.

    Raises:
      ValueError: if there is no such checkpoint, or `config.model` has a key that nothing takes.
    """
    facts = config.model.to_dict()
    name = facts.pop("model_name", None)
    image_size = config.pp.crop
    image_size = image_size if isinstance(image_size, int) else tuple(image_size)
    if config.pretrained_dir is None:
        model = _fresh_model(config, name, image_size, classes, facts)
    else:
        model = _pretrained_model(config, name, image_size, classes, facts)
    if config.head_bias is not None:
        weights = vit_keras.checkpoints.named_weights(model)
        if "head/bias" not in weights:
            raise ValueError(f"config.head_bias is {config.head_bias}, but the model has no head.")
        bias = compat.tf_variable(weights["head/bias"])
        bias.assign(tf.fill(bias.shape, float(config.head_bias)))
    return model


def build_teacher(config: ml_collections.ConfigDict, classes: int) -> keras.Model | None:
    """The model of `config.teacher`, None where there is none.

    Raises:
      ValueError: if it can't be read, or has another number of classes.
    """
    if config.teacher is None:
        return None
    size = config.teacher_size or config.pp.crop
    teacher = vit_keras.from_npz(config.teacher, image_size=size, dtype=config.dtype)
    if teacher.output_shape[-1] != classes:
        raise ValueError(
            f"config.teacher has {teacher.output_shape[-1]} classes; expected the {classes} of "
            f"{config.dataset}."
        )
    return teacher


def is_two_towers(model: keras.Model) -> bool:
    """Whether `model` compares images and texts (see `models.build_two_towers`)."""
    return isinstance(model.output, dict) and "zimg" in model.output


def _fresh_model(config, name: str, image_size, classes: int, facts: dict[str, Any]):
    image_weights = facts.pop("image_weights", None)
    options = {key: facts.pop(key) for key in _REGULARIZATION if key in facts}
    if canonical_variant(name) in TWO_TOWER_VARIANTS:
        described = _two_towers(name, image_size, facts)
    else:
        described = variant_config(name, image_size=image_size, classes=classes)
        described = _with_facts(described, facts, "model")
    model = build(
        described, regularization=Regularization.from_options(options), dtype=config.dtype
    )
    if image_weights is not None:
        if not isinstance(described, TwoTowersConfig):
            raise ValueError("config.model.image_weights is for the image tower of two towers.")
        vit_keras.load_npz(model.get_layer("img"), image_weights, reset_head=True, pre_logits=False)
    return model


def _two_towers(name: str, image_size, facts: dict[str, Any]) -> TwoTowersConfig:
    """Two towers; `facts` has those of each tower in the groups `image` and `text`."""
    towers = variant_config(name, image_size=image_size)
    changes = {
        tower: _with_facts(getattr(towers, tower), facts.pop(tower, {}), f"model.{tower}")
        for tower in ("image", "text")
    }
    # Together: each tower alone could no longer be compared with the other.
    return _with_facts(towers, {**facts, **changes}, "model")


def _with_facts(described: Config, facts: dict[str, Any], group: str) -> Config:
    valid = [field.name for field in dataclasses.fields(described)]
    for key in facts:
        if key not in valid:
            valid = [f"{group}.{k}" for k in ("model_name", *valid, *_REGULARIZATION)]
            raise unknown_name("config key", f"{group}.{key}", valid)
    if isinstance(facts.get("stem"), tuple | list):
        facts = {**facts, "stem": ResNetStem(tuple(facts["stem"]))}
    return described.replace(**facts)


def _pretrained_model(config, name: str, image_size, classes: int, facts: dict[str, Any]):
    for key in facts:
        if key not in _OF_CHECKPOINT:
            valid = [f"model.{k}" for k in ("model_name", *_OF_CHECKPOINT)]
            raise unknown_name("config key", f"model.{key}", valid)
    return vit_keras.from_npz(
        checkpoint_path(config, name),
        image_size=image_size,
        classes=classes,
        classifier=facts.get("classifier"),
        patch_size=facts.get("patch_size"),
        reset_head=config.reset_head,
        # As in the original: `representation_size=None` drops the layer before the head.
        pre_logits=facts.get("representation_size") is not None,
        dtype=config.dtype,
        **{key: facts[key] for key in _REGULARIZATION if key in facts},
    )


def checkpoint_path(config: ml_collections.ConfigDict, name: str | None) -> str:
    """The file in `config.pretrained_dir` that the run begins with.

    It is called `config.model_or_filename` if that is set, else `name`. As in the original, a
    `model_or_filename` that is a model of AugReg, such as R_Ti_16, rather than a file stands for
    its ImageNet-21k checkpoint of the highest `final_val` in the folder's `index.csv`.

    Raises:
      ValueError: there is no such file, index, or model in the index.
    """
    directory = config.pretrained_dir
    filename = config.model_or_filename or name
    path = os.path.join(directory, f"{filename}.npz")
    if config.model_or_filename and "-" not in filename and not os.path.exists(path):
        return os.path.join(directory, f"{_best_of_augreg(directory, filename)}.npz")
    if "://" not in path and not os.path.exists(path):
        raise ValueError(
            f"There is no {path}. Set config.pretrained_dir to where {filename}.npz is "
            "(published ones are in gs://vit_models), or to None to train from scratch."
        )
    return path


def _best_of_augreg(directory: str, model: str) -> str:
    index = os.path.join(directory, "index.csv")
    if "://" not in index and not os.path.exists(index):
        raise ValueError(
            f"config.model_or_filename is {model!r}, whose best checkpoint stands in {index}, but "
            "there is no such file. Expected the name of a file in config.pretrained_dir (without "
            f".npz), or config.pretrained_dir={augreg_index.DIRECTORY}."
        )
    rows = augreg_index.augreg(index)
    models = {row.filename.split("-")[0] for row in rows}
    if model not in models:
        raise unknown_name("config.model_or_filename", model, sorted(models))
    rows = rows.filter(ds="i21k", filename=lambda filename: filename.split("-")[0] == model)
    rows = rows.sort("final_val", descending=True)
    if not rows or rows[0].final_val is None:
        raise ValueError(
            f"config.model_or_filename is {model!r}, of which {index} has no ImageNet-21k "
            "checkpoint; expected the name of a file."
        )
    best = rows[0]
    logging.info("Chose %s for %s: final_val %.3f.", best.filename, model, best.final_val)
    return best.filename
