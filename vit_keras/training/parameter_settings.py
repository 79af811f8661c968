"""Per-parameter settings, by regular expressions over checkpoint names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence

from absl import logging


@dataclasses.dataclass(frozen=True)
class ParameterSettings:
    """What holds for one parameter.

    Attributes:
      name: checkpoint name.
      lr_multiplier: factor on the learning rate; 0 never occurs (that is `frozen`).
      weight_decay: share of the parameter that decays in a step at the schedule's peak.
      frozen: neither updated nor decayed nor counted in the gradient norm.
    """

    name: str
    lr_multiplier: float = 1.0
    weight_decay: float = 0.0
    frozen: bool = False


Patterns = Sequence[tuple[str, float]]


def make_settings(
    names: Iterable[str],
    *,
    lr_multipliers: Patterns = (),
    weight_decay: float = 0.0,
    weight_decay_multipliers: Patterns = ((".*/kernel$", 1.0),),
    frozen: Sequence[str] = (),
    layer_decay: float | None = None,
) -> list[ParameterSettings]:
    """Settings for each name; in every list the first pattern that matches counts.

    Args:
      names: checkpoint names, such as `Transformer/encoderblock_0/LayerNorm_0/scale`.
      lr_multipliers: (pattern, factor) pairs. A pattern must match from the name's start.
      weight_decay: times the factor of `weight_decay_multipliers`, 0 for what they don't match.
      weight_decay_multipliers: (pattern, factor) pairs.
      frozen: patterns.
      layer_decay: factor on the learning rate for each layer further from the head
        (arXiv 2106.08254): 1 for the head, its square for the last but one block, and so on.

    Raises:
      ValueError: for a pattern that matches nothing, a bad pattern, or a multiplier of 0 or less.
    """
    names = list(names)
    rates = _first_matches("lr_multipliers", lr_multipliers, names)
    decays = {}
    if weight_decay:
        decays = _first_matches("weight_decay_multipliers", weight_decay_multipliers, names)
    for key, pairs, lowest in (
        ("lr_multipliers", lr_multipliers, "above 0 (to freeze, use `frozen`)"),
        ("weight_decay_multipliers", weight_decay_multipliers, "at least 0"),
    ):
        for pattern, value in pairs:
            if value < 0 or (value == 0 and key == "lr_multipliers"):
                raise ValueError(f"{key}: {pattern!r} has {value}; expected a number {lowest}.")
    frozen_names = _first_matches("frozen", [(pattern, 1.0) for pattern in frozen], names)
    layers = _layer_multipliers(names, layer_decay)
    return [
        ParameterSettings(
            name,
            rates.get(name, 1.0) * layers[name],
            weight_decay * decays.get(name, 0.0),
            name in frozen_names,
        )
        for name in names
    ]


def _first_matches(key: str, pairs: Patterns, names: list[str]) -> dict[str, float]:
    values: dict[str, float] = {}
    for pattern, value in pairs:
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{key}: {pattern!r} is not a regular expression: {error}.") from error
        matches = [name for name in names if compiled.match(name)]
        if not matches:
            raise ValueError(
                f"{key}: the pattern {pattern!r} matches no parameter. Their names are:\n  "
                + "\n  ".join(names)
            )
        for name in matches:
            values.setdefault(name, value)
    return values


def _layer_multipliers(names: list[str], layer_decay: float | None) -> dict[str, float]:
    if layer_decay is None:
        return dict.fromkeys(names, 1.0)
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay is {layer_decay}; expected a number in (0, 1].")
    blocks = {name: _block_number(name) for name in names}
    num_blocks = 1 + max((block for block in blocks.values() if block is not None), default=-1)
    multipliers = {}
    for name, block in blocks.items():
        if block is not None:
            depth = block + 1  # the embeddings are layer 0
        elif re.search(r"(head|pre_logits|encoder_norm|MAPHead|pre_head_layer_norm)", name):
            depth = num_blocks + 1
        else:
            depth = 0
        multipliers[name] = layer_decay ** (num_blocks + 1 - depth)
    return multipliers


def _block_number(name: str) -> int | None:
    found = re.search(r"(?:encoderblock|MixerBlock)_(\d+)/", name)
    return int(found.group(1)) if found else None


def log_settings(settings: Sequence[ParameterSettings], shapes: Sequence[tuple[int, ...]]) -> str:
    """Logs the table of all parameters, and returns it."""
    width = max(len(setting.name) for setting in settings)
    lines = [f"{'parameter':{width}}  {'shape':18} lr multiplier  weight decay"]
    for setting, shape in zip(settings, shapes, strict=True):
        rate = "frozen" if setting.frozen else f"{setting.lr_multiplier:.4g}"
        decay = "" if setting.frozen else f"{setting.weight_decay:.4g}"
        lines.append(f"{setting.name:{width}}  {shape!s:18} {rate:>13}  {decay:>12}")
    table = "\n".join(lines)
    logging.info("Parameter settings:\n%s", table)
    return table
