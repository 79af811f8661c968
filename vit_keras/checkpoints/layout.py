"""Which array of a file holds which parameters, in which shape.

Most hold one, as it is. Scanned models stack that of all blocks; old files give GroupNorm arrays
four dimensions, and BERT's attention kernels two.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from vit_keras.checkpoints.naming import (
    BLOCK,
    FLAT_ATTENTION,
    GROUP_NORM,
    Dialect,
    split_tower,
)


@dataclasses.dataclass(frozen=True)
class FileArray:
    """One array of a file.

    Attributes:
      shape: that it has in the file.
      parameters: canonical names of what it holds.
      stacked: whether its first axis counts them.
    """

    shape: tuple[int, ...]
    parameters: tuple[str, ...]
    stacked: bool = False


def file_layout(shapes: Mapping[str, tuple[int, ...]], dialect: Dialect) -> dict[str, FileArray]:
    """The arrays that a file in `dialect` stores parameters in.

    Args:
      shapes: canonical name to shape.
      dialect: of the file.

    Returns:
      Canonical name to array; the blocks of a scanned encoder are one name without a number.
    """
    layout: dict[str, FileArray] = {}
    for name, shape in shapes.items():
        tower, local = split_tower(name)
        shape = _stored_shape(local, shape, dialect)
        match = BLOCK.fullmatch(local)
        if match and tower + match[1] in dialect.scan:
            key = f"{tower}{match[1]}/encoderblock/{match[3]}"
            blocks = (*layout[key].parameters, name) if key in layout else (name,)
            layout[key] = FileArray((len(blocks), *shape), blocks, stacked=True)
        else:
            layout[name] = FileArray(shape, (name,))
    return layout


def _stored_shape(name: str, shape: tuple[int, ...], dialect: Dialect) -> tuple[int, ...]:
    if dialect.group_norm_4d and GROUP_NORM.fullmatch(name):
        return (1, 1, 1, *shape)
    if dialect.flat_attention and FLAT_ATTENTION.fullmatch(name):
        if len(shape) == 3:  # (width, heads, size), or (heads, size, width) on the way out
            return (
                (math.prod(shape[:2]), shape[2])
                if "dense_layer" in name
                else (
                    shape[0],
                    math.prod(shape[1:]),
                )
            )
        return (math.prod(shape),)
    return shape
