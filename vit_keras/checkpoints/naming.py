"""The names that JAX checkpoints give to parameters, and the one name we give to each.

Canonical names are those of a freshly initialised vision_transformer (Flax linen), such as
`Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel`; those of two towers begin with `img/` and
`txt/`. A dialect is how a file departs from them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

POSITIONS = "Transformer/posembed_input/pos_embedding"
# A text tower's encoder is called Encoder_0; all blocks in one, stacked, have no number.
BLOCK = re.compile(r"(Transformer|Encoder_0)/encoderblock(?:_(\d+))?/(.+)")
GROUP_NORM = re.compile(r"(?:.*/)?gn(?:\d|_root|_proj)/(?:scale|bias)")
FLAT_ATTENTION = re.compile(
    r".*/attention_block/(?:attention_layer/\w+|dense_layer)/(?:kernel|bias)"
)

# Inside a block: canonical part and legacy part. Flax once numbered all submodules in one row.
_LEGACY_PARTS = {
    "LayerNorm_1": "LayerNorm_2",
    "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
    "MlpBlock_0": "MlpBlock_3",
}
_CANONICAL_PARTS = {legacy: linen for linen, legacy in _LEGACY_PARTS.items()}
# The attention pooling head has one of each kind, whatever their numbers; once its parts lay at
# the root.
_MAP_PART = re.compile(
    r"(?:MAPHead_0/)?(LayerNorm|MlpBlock|MultiHeadDotProductAttention)_\d+/(.+)|(?:MAPHead_0/)?(probe)"
)

NAMINGS = ("legacy", "linen", "big_vision")
TOWERS = ("img/", "txt/")

# In front of all parameters, and of the towers' prefixes; longest first.
_BASES = ("opt/target/params/", "opt/target/", "params/", "")
# What the first layer of each family has.
_MARKERS = {
    "vit": ("embedding/kernel", "embedding/bias"),
    "mixer": ("stem/kernel", "stem/bias"),
    "text": ("Embed_0/embedding",),
    "bert": (
        "BertEncoder_0/layer_norm/bias",
        "BertEncoder_0/embedder/embedders_token_ids/embedding",
    ),
}
PREFIXES = tuple(base + tower for base in _BASES for tower in (*TOWERS, ""))

# Beside the parameters: optimizer state, and what big_vision keeps of the run.
_STATE = re.compile(r"(opt|opt_state|chrono)(/|$)")


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a file writes canonical names and shapes.

    Attributes:
      naming: "legacy" (every published vision_transformer file), "linen" or "big_vision" (like
        linen, but positions at the root, without one for the class token).
      prefix: in front of every name, such as "opt/target/".
      scan: encoders whose blocks are stacked along a leading axis, such as "img/Transformer".
      group_norm_4d: GroupNorm arrays have shape (1, 1, 1, channels), as in old hybrids.
      flat_attention: BERT's attention kernels are matrices (width, width), as Flaxformer has them.
      exceptions: canonical names that the file doesn't write as its naming would.
    """

    naming: str
    prefix: str = ""
    scan: tuple[str, ...] = ()
    group_norm_4d: bool = False
    flat_attention: bool = True
    exceptions: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def stored_name(self, canonical: str) -> str:
        """What the file calls the parameter with this canonical name."""
        if canonical in self.exceptions:
            return self.prefix + self.exceptions[canonical]
        tower, name = split_tower(canonical)
        if self.naming == "legacy" and (match := BLOCK.fullmatch(name)) and match[2]:
            if match[1] == "Transformer":
                part, _, rest = match[3].partition("/")
                part = _LEGACY_PARTS.get(part, part)
                name = f"Transformer/encoderblock_{match[2]}/{part}/{rest}"
        elif self.naming == "big_vision" and name == POSITIONS:
            name = "pos_embedding"
        return self.prefix + tower + name


@dataclasses.dataclass(frozen=True)
class NameMap:
    """The names of one file, understood.

    Attributes:
      dialect: how it writes them.
      stored: canonical name to the name in the file.
      ignored: names of optimizer state beside the parameters.
      extra: names that are no parameter's.
      towers: family of each tower, "vit", "mixer", "text" or "bert", by its prefix: "" for a
        single one, "img/" and "txt/" for two.
    """

    dialect: Dialect
    stored: Mapping[str, str]
    ignored: tuple[str, ...]
    extra: tuple[str, ...] = ()
    towers: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"": "vit"})


def split_tower(canonical: str) -> tuple[str, str]:
    """`img/cls` to ("img/", "cls"), `cls` to ("", "cls")."""
    tower = canonical[:4] if canonical[:4] in TOWERS else ""
    return tower, canonical[len(tower) :]


def understand_names(shapes: Mapping[str, tuple[int, ...]]) -> NameMap:
    """Finds prefix, families and naming of a checkpoint from its names and shapes.

    Names that belong to no model are kept: the caller compares them with what its model has.

    Raises:
      ValueError: no model's first layer is found under any known prefix, or two arrays are the
        same parameter.
    """
    prefix, towers = _find_towers(shapes)
    inside, extra, ignored = [], [], []
    for name in shapes:
        # Under an empty prefix optimizer state is inside as well.
        if _STATE.match(name) and not (prefix and name.startswith(prefix)):
            ignored.append(name)
        elif name.startswith(prefix):
            inside.append(name.removeprefix(prefix))
        else:
            extra.append(name)
    inlined = {tower for tower in towers if f"{tower}probe" in inside}
    canonical = {name: _canonical_name(name, towers, inlined) for name in inside}
    stored: dict[str, str] = {}
    for name, known_as in canonical.items():
        if known_as in stored:
            raise ValueError(
                f"{stored[known_as]!r} and {prefix + name!r} are both the parameter {known_as!r}."
            )
        stored[known_as] = prefix + name
    dialect = Dialect(
        naming=_find_naming(inside),
        prefix=prefix,
        scan=tuple(
            sorted(
                {
                    split_tower(name)[0] + match[1]
                    for name in stored
                    if (match := BLOCK.fullmatch(split_tower(name)[1])) and match[2] is None
                }
            )
        ),
        group_norm_4d=any(
            GROUP_NORM.fullmatch(name) and len(shapes[key]) == 4 for name, key in stored.items()
        ),
        flat_attention=not any(
            FLAT_ATTENTION.fullmatch(name) and len(shapes[key]) == 3 for name, key in stored.items()
        ),
    )
    exceptions = {
        known_as: name
        for name, known_as in canonical.items()
        if dialect.stored_name(known_as) != prefix + name
    }
    dialect = dataclasses.replace(dialect, exceptions=exceptions)
    return NameMap(dialect, stored, tuple(ignored), tuple(extra), towers)


def _find_towers(names: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    """The prefix of all parameters, and the family of each tower below it."""

    def family_under(prefix: str) -> str | None:
        for family, markers in _MARKERS.items():
            if any(prefix + marker in names for marker in markers):
                return family
        return None

    for base in _BASES:
        found = {tower: family_under(base + tower) for tower in TOWERS}
        if all(found.values()):
            return base, found
        for tower, family in {**found, "": family_under(base)}.items():
            if family:
                return base + tower, {"": family}
    shown = ", ".join(sorted(names)[:5])
    raise ValueError(
        "No first layer ('embedding/kernel' of a ViT, 'stem/kernel' of a Mixer, "
        "'Embed_0/embedding' of a text tower) under any of the prefixes "
        f"{', '.join(repr(p) for p in PREFIXES)}: not a checkpoint of these families. It has "
        f"{len(names)} arrays{': ' + shown if shown else ''}{', ...' if len(names) > 5 else ''}."
    )


def _find_naming(names: list[str]) -> str:
    if any("Transformer/encoderblock_" in name and "/MlpBlock_3/" in name for name in names):
        return "legacy"
    local = {split_tower(name)[1] for name in names if not name.startswith("txt/")}
    return "big_vision" if {"pos_embedding", "Transformer/pos_embedding"} & local else "linen"


def _canonical_name(name: str, towers: Mapping[str, str], inlined: set[str]) -> str:
    tower, local = split_tower(name)
    if towers.get(tower) == "vit" and local in ("pos_embedding", "Transformer/pos_embedding"):
        return tower + POSITIONS
    if match := BLOCK.fullmatch(local):
        part, _, rest = match[3].partition("/")
        number = "" if match[2] is None else f"_{match[2]}"
        part = _CANONICAL_PARTS.get(part, part)
        return f"{tower}{match[1]}/encoderblock{number}/{part}/{rest}"
    if (local.startswith("MAPHead_0/") or tower in inlined) and (m := _MAP_PART.fullmatch(local)):
        return f"{tower}MAPHead_0/" + (m[3] or f"{m[1]}_0/{m[2]}")
    return name
