"""How a transformer is trained, as far as its layers have to know."""

from __future__ import annotations

import dataclasses
from typing import Any

from vit_keras.layers.stateless_dropout import check_rate
from vit_keras.names import unknown_name


@dataclasses.dataclass(frozen=True)
class Regularization:
    """Options of the blocks that change training but no weight's shape, all off by default.

    Attributes:
      dropout: rate after positions, attention and in the MLP.
      attention_dropout: rate on attention weights.
      stochastic_depth: rate of the last block; it grows linearly from 0 at the first.
      layer_scale: initial value of LayerScale; None for none (it adds weights).
      remat: recompute each block in the backward pass.
    """

    dropout: float = 0.0
    attention_dropout: float = 0.0
    stochastic_depth: float = 0.0
    layer_scale: float | None = None
    remat: bool = False

    def __post_init__(self):
        """Refuses rates outside [0, 1)."""
        for name in ("dropout", "attention_dropout", "stochastic_depth"):
            check_rate(name, getattr(self, name))

    @classmethod
    def from_options(cls, options: dict[str, Any]) -> Regularization:
        """From keyword arguments; an unknown one is a `ValueError` that names the nearest."""
        for name in options:
            if name not in cls.__dataclass_fields__:
                raise unknown_name("argument", name, cls.__dataclass_fields__)
        return cls(**options)

    def refuse(self, model: str, *names: str) -> None:
        """Raises a `ValueError` if one of the options `names`, which `model` lacks, is on."""
        for name in names:
            value = getattr(self, name)
            if value != self.__dataclass_fields__[name].default:
                raise ValueError(f"{name} is {value!r}, but {model} has no such option.")

    def stochastic_depth_of(self, index: int, num_layers: int) -> float:
        """The rate of block `index` of `num_layers` (arXiv 1603.09382, section 3)."""
        return self.stochastic_depth * index / max(num_layers - 1, 1)
