"""What a checkpoint holds, without building its model."""

from __future__ import annotations

import dataclasses
import math
import os

import keras
import numpy as np

from vit_keras.checkpoints.infer import infer_vit
from vit_keras.checkpoints.naming import understand_names
from vit_keras.checkpoints.npz_file import NpzFile


@dataclasses.dataclass(frozen=True)
class Description:
    """The facts of a checkpoint; `str()` of it is for people.

    Attributes:
      path: of the file.
      family: "vit".
      config: the architecture, such as a `models.ViTConfig`.
      naming: "legacy", "linen" or "big_vision".
      prefix: in front of every parameter's name, such as "opt/target/".
      classes: outputs of the head; 0 for no head.
      head_is_zero: every number of the head is zero, so that it predicts nothing.
      parameters: how many numbers the model has.
      arrays: how many arrays hold them.
      ignored: names of optimizer state beside the parameters.
    """

    path: str
    family: str
    config: object
    naming: str
    prefix: str
    classes: int
    head_is_zero: bool
    parameters: int
    arrays: int
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        """One fact a line."""
        head = f"{self.classes} classes" if self.classes else "none"
        if self.head_is_zero:
            head += " (all zeros: fine-tune it before predicting)"
        lines = {
            "file": self.path,
            "family": self.family,
            "naming": self.naming + (f", under {self.prefix!r}" if self.prefix else ""),
            "head": head,
            "parameters": f"{self.parameters:,} in {self.arrays} arrays",
        }
        if self.ignored:
            lines["left out"] = f"{len(self.ignored)} arrays of optimizer state"
        for field in dataclasses.fields(self.config):
            if field.name != "classes":
                lines[field.name] = getattr(self.config, field.name)
        width = max(map(len, lines))
        return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())


def describe(
    path: str | os.PathLike, image_size: int | tuple[int, int] | None = None
) -> Description:
    """Reads a checkpoint's headers, and its head, and says what it holds.

    Args:
      path: an `.npz` file.
      image_size: as in `from_npz`; only needed where the file stores no positions, or a grid of
        them that isn't square.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it isn't a checkpoint that `from_npz` could read.
    """
    from vit_keras.layers.patch_encoder import pair

    size = None if image_size is None else pair("image_size", image_size)
    with NpzFile(path) as file:
        names = understand_names(file.specs)
        shapes = {canonical: file.specs[key].shape for canonical, key in names.stored.items()}
        config, _ = infer_vit(names, shapes, image_size=size)
        head = [names.stored[key] for key in names.stored if key.startswith("head/")]
        return Description(
            path=os.fspath(path),
            family="vit",
            config=config,
            naming=names.dialect.naming,
            prefix=names.dialect.prefix,
            classes=config.classes,
            head_is_zero=bool(head) and not any(file.read(key).any() for key in head),
            parameters=sum(math.prod(shape) for shape in shapes.values()),
            arrays=len(shapes),
            ignored=names.ignored,
        )


def head_is_zero(model: keras.Model) -> bool:
    """Whether the model's head is all zeros, so that it says the same of every image.

    The published ImageNet-21k files of the first paper have such heads, and so has every model
    whose head was made fresh. False for a model without a head.
    """
    heads = [layer for layer in model.layers if layer.name == "head"]
    return bool(heads) and not any(np.any(weight.numpy()) for weight in heads[0].weights)
