"""What a checkpoint holds, without building its model."""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import keras
import numpy as np

from vit_keras.checkpoints.download import local_path
from vit_keras.checkpoints.infer import has_layer_scale, infer_config
from vit_keras.checkpoints.layout import file_layout
from vit_keras.checkpoints.load import check_fit, understand_file
from vit_keras.checkpoints.npz_file import NpzFile
from vit_keras.checkpoints.shapes import parameter_shapes
from vit_keras.layers.patch_encoder import pair
from vit_keras.models.build import Config, family


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts of a checkpoint; `str()` of it is for people.

    Attributes:
      path: of the file.
      family: "vit", "hybrid", "mixer", "text", "bert" or "two_towers".
      config: the architecture, such as a `models.ViTConfig`.
      naming: "legacy", "linen" or "big_vision".
      prefix: in front of every parameter's name, such as "opt/target/".
      scan: encoders whose blocks are stacked in one array, such as "Transformer".
      classes: outputs of the head; 0 for no head. Of two towers, the width of the embeddings.
      head_is_zero: every number of the head is zero, so that it predicts nothing.
      parameters: how many numbers the model has.
      arrays: how many arrays hold them.
      ignored: names of optimizer state beside the parameters.
    """

    path: str
    family: str
    config: Config
    naming: str
    prefix: str
    scan: tuple[str, ...]
    classes: int
    head_is_zero: bool
    parameters: int
    arrays: int
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        """One fact a line."""
        naming = self.naming + (f", under {self.prefix!r}" if self.prefix else "")
        if self.scan:
            naming += f", blocks of {' and '.join(self.scan)} stacked"
        head = f"{self.classes} classes" if self.classes else "none"
        if self.family in ("two_towers", "text", "bert"):
            head = f"embeddings of width {self.classes}"
        if self.head_is_zero:
            head += " (all zeros: fine-tune it before predicting)"
        lines = {
            "file": self.path,
            "family": self.family,
            "naming": naming,
            "head": head,
            "parameters": f"{self.parameters:,} in {self.arrays} arrays",
        }
        if self.ignored:
            lines["left out"] = f"{len(self.ignored)} arrays of optimizer state"
        lines.update(_facts(self.config))
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def _facts(config: Config, prefix: str = "") -> dict[str, Any]:
    """What decides the architecture, by name; of two towers, of each."""
    facts = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name in ("image", "text"):
            facts.update(_facts(value, f"{field.name}."))
        elif field.name != "classes" and not field.name.startswith("initial_"):
            facts[prefix + field.name] = value
    return facts


def describe(
    path: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    patch_size: int | tuple[int, int] | None = None,
) -> Description:
    """Reads a checkpoint's headers, and its head, and says what it holds.

    Args:
      path: an `.npz` file, or an address.
      image_size: as in `from_npz`; only needed where the file stores no positions, or a grid of
        them that isn't square.
      patch_size: only needed where the file's patches aren't square.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it isn't a checkpoint that `from_npz` could read.
    """
    size = None if image_size is None else pair("image_size", image_size)
    patch_size = None if patch_size is None else pair("patch_size", patch_size)
    with NpzFile(local_path(path)) as file:
        names, shapes = understand_file(file)
        config = infer_config(names, shapes, image_size=size, patch_size=patch_size)
        expected = parameter_shapes(config, layer_scale=has_layer_scale(shapes))
        check_fit(file, names, file_layout(expected, names.dialect))
        head = [names.stored[key] for key in names.stored if key.startswith("head/")]
        towers = hasattr(config, "embedding_size")
        return Description(
            path=os.fspath(path),
            family=family(config),
            config=config,
            naming=names.dialect.naming,
            prefix=names.dialect.prefix,
            scan=names.dialect.scan,
            classes=config.embedding_size if towers else config.classes,
            head_is_zero=bool(head) and not any(file.read(key).any() for key in head),
            parameters=sum(math.prod(shape) for shape in expected.values()),
            arrays=len(names.stored),
            ignored=names.ignored,
        )


def head_is_zero(model: keras.Model) -> bool:
    """Whether the model's head is all zeros, so that it says the same of every image.

    The published ImageNet-21k files of the first paper have such heads, and so has every model
    whose head was made fresh. False for a model without a head.
    """
    heads = [layer for layer in model.layers if layer.name == "head"]
    return bool(heads) and not any(np.any(weight.numpy()) for weight in heads[0].weights)
