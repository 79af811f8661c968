"""The names that JAX checkpoints give to parameters, and the one name we give to each.

Canonical names are those of a freshly initialised vision_transformer (Flax linen), such as
`Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel`. A dialect is how a file departs from them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

POSITIONS = "Transformer/posembed_input/pos_embedding"
BLOCK = re.compile(r"Transformer/encoderblock_(\d+)/(.+)")

# Inside a block: canonical part and legacy part. Flax once numbered all submodules in one row.
_LEGACY_PARTS = {
    "LayerNorm_1": "LayerNorm_2",
    "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
    "MlpBlock_0": "MlpBlock_3",
}
_CANONICAL_PARTS = {legacy: linen for linen, legacy in _LEGACY_PARTS.items()}

NAMINGS = ("legacy", "linen", "big_vision")

# Longest first: a file is read under the first prefix that has a patch embedding below it.
PREFIXES = ("opt/target/", "params/img/", "params/", "img/", "")

# Beside the parameters: optimizer state, and what big_vision keeps of the run.
_STATE = re.compile(r"(opt|opt_state|chrono)(/|$)")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a file writes canonical names.

    Attributes:
      naming: "legacy" (every published vision_transformer file), "linen" or "big_vision" (like
        linen, but positions at the root, without one for the class token).
      prefix: in front of every name, such as "opt/target/".
    """

    naming: str
    prefix: str = ""

    def stored_name(self, canonical: str) -> str:
        """What the file calls the parameter with this canonical name."""
        name = canonical
        if self.naming == "legacy" and (match := BLOCK.fullmatch(canonical)):
            part, _, rest = match[2].partition("/")
            name = f"Transformer/encoderblock_{match[1]}/{_LEGACY_PARTS.get(part, part)}/{rest}"
        elif self.naming == "big_vision" and canonical == POSITIONS:
            name = "pos_embedding"
        return self.prefix + name


@dataclasses.dataclass(frozen=True)
class NameMap:
    """The names of one file, understood.

    Attributes:
      dialect: how it writes them.
      stored: canonical name to the name in the file.
      ignored: names of optimizer state beside the parameters.
    """

    dialect: Dialect
    stored: Mapping[str, str]
    ignored: tuple[str, ...]


def understand_names(names: Iterable[str]) -> NameMap:
    """Finds prefix and naming of a checkpoint from its names alone.

    Names that belong to no model are kept: the caller compares them with what its model has.

    Raises:
      ValueError: no patch embedding is found under any known prefix.
    """
    names = list(names)
    prefix = _find_prefix(names)
    inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    outside = [name for name in names if not name.startswith(prefix)]
    # Under an empty prefix optimizer state is inside as well.
    ignored = [name for name in outside if _STATE.match(name)]
    if not prefix:
        ignored = [name for name in inside if _STATE.match(name)]
        inside = [name for name in inside if not _STATE.match(name)]
    stored = {_canonical_name(name): prefix + name for name in inside}
    stored.update({name: name for name in outside if name not in ignored})
    return NameMap(Dialect(_find_naming(inside), prefix), stored, tuple(ignored))


def _find_prefix(names: list[str]) -> str:
    for prefix in PREFIXES:
        if any(f"{prefix}embedding/{part}" in names for part in ("kernel", "bias")):
            return prefix
    shown = ", ".join(sorted(names)[:5])
    raise ValueError(
        "No patch embedding ('embedding/kernel') under any of the prefixes "
        f"{', '.join(repr(p) for p in PREFIXES)}: not a ViT checkpoint. It has {len(names)} "
        f"arrays{': ' + shown if shown else ''}{', ...' if len(names) > 5 else ''}."
    )


def _find_naming(names: list[str]) -> str:
    if any("/MlpBlock_3/" in name for name in names):
        return "legacy"
    if "pos_embedding" in names or "Transformer/pos_embedding" in names:
        return "big_vision"
    return "linen"


def _canonical_name(name: str) -> str:
    if name in ("pos_embedding", "Transformer/pos_embedding"):
        return POSITIONS
    if match := BLOCK.fullmatch(name):
        part, _, rest = match[2].partition("/")
        return f"Transformer/encoderblock_{match[1]}/{_CANONICAL_PARTS.get(part, part)}/{rest}"
    return name
