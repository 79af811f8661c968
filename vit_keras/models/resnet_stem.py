"""The ResNet that stands in front of a hybrid's transformer."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from vit_keras import layers


@dataclasses.dataclass(frozen=True)
class ResNetStem:
    """The facts of a (partial) BiT ResNet (arXiv 2010.11929, section 3.1, hybrid architecture).

    Attributes:
      num_layers: bottleneck units of each stage; () for the root block alone.
      width_factor: of the 64 channels of the root.
    """

    num_layers: tuple[int, ...]
    width_factor: float = 1.0

    def __post_init__(self):
        """Refuses values that no stem can be built from."""
        object.__setattr__(self, "num_layers", tuple(self.num_layers))
        if not all(isinstance(units, int) and units > 0 for units in self.num_layers):
            raise ValueError(f"num_layers is {self.num_layers!r}; expected positive ints.")
        if self.width < 32 or self.width % 32:
            raise ValueError(
                f"width_factor is {self.width_factor!r}, which makes {self.width} channels; "
                "expected a multiple of 32 (GroupNorm has 32 groups)."
            )

    @property
    def width(self) -> int:
        """Channels of the root, and of the bottlenecks of the first stage."""
        return int(64 * self.width_factor)

    @property
    def output_channels(self) -> int:
        """Channels that the transformer's patch embedding sees."""
        stages = len(self.num_layers)
        return self.width if not stages else 4 * self.width * 2 ** (stages - 1)

    @property
    def stride(self) -> int:
        """Pixels of the image along a side of an output pixel: 4, doubled by each later stage."""
        return 4 * 2 ** max(len(self.num_layers) - 1, 0)

    def output_side(self, side: int) -> int:
        """Output pixels along a side of the image: each halving rounds up."""
        return -(-side // self.stride)

    def units(self) -> list[tuple[str, int, int]]:
        """(layer name, features, strides) of every bottleneck unit, first to last."""
        return [
            (
                f"block{stage + 1}_unit{unit + 1}",
                self.width * 2**stage,
                2 if stage and not unit else 1,
            )
            for stage, count in enumerate(self.num_layers)
            for unit in range(count)
        ]

    def apply(self, images: Any, dtype: Any = None) -> Any:
        """From images (batch, h, w, c) to (batch, h / stride, w / stride, output_channels)."""
        x = layers.StdConv(self.width, 7, 2, dtype=dtype, name="conv_root")(images)
        x = layers.GroupNorm(dtype=dtype, name="gn_root")(x)
        x = keras.layers.Activation("relu", dtype=dtype, name="relu_root")(x)
        x = keras.layers.MaxPooling2D(3, 2, padding="same", dtype=dtype, name="max_pool_root")(x)
        for name, features, strides in self.units():
            x = layers.ResidualUnit(features, strides, dtype=dtype, name=name)(x)
        return x
