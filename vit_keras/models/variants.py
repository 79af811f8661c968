"""The named sizes."""

from __future__ import annotations

import dataclasses
import re

from vit_keras.models.bert import BertConfig
from vit_keras.models.build import Config
from vit_keras.models.config import ViTConfig
from vit_keras.models.mixer import MixerConfig
from vit_keras.models.resnet_stem import ResNetStem
from vit_keras.models.text import TextConfig
from vit_keras.models.two_towers import TwoTowersConfig
from vit_keras.names import unknown_name


@dataclasses.dataclass(frozen=True)
class Size:
    """Width, MLP width, heads and depth of a transformer."""

    hidden_size: int
    mlp_dim: int
    num_heads: int
    num_layers: int


# arXiv 2010.11929 table 1, 2106.10270 table 2, 2106.04560 table 2, and big_vision's sizes.
SIZES = {
    "mu": Size(32, 128, 2, 1),
    "Ti": Size(192, 768, 3, 12),
    "S": Size(384, 1536, 6, 12),
    "M": Size(512, 2048, 8, 12),
    "B": Size(768, 3072, 12, 12),
    "L": Size(1024, 4096, 16, 24),
    "So400m": Size(1152, 4304, 16, 27),
    "H": Size(1280, 5120, 16, 32),
    "g": Size(1408, 6144, 16, 40),
    "g-opt": Size(1536, 6144, 16, 40),
    "G": Size(1664, 8192, 16, 48),
    "G-opt": Size(1536, 8192, 16, 48),
    "e": Size(1792, 15360, 16, 56),
}

# The patch sizes that were published or that preflight's tables use; any other works as well.
_USUAL_PATCHES = {
    "mu": (16,),
    "Ti": (16,),
    "S": (8, 16, 32),
    "M": (16, 32),
    "B": (8, 16, 32),
    "L": (14, 16, 32),
    "So400m": (14, 16),
    "H": (14, 16),
    "g": (14, 16),
    "g-opt": (14, 16),
    "G": (14,),
    "G-opt": (14,),
    "e": (14,),
}

PLAIN_VARIANTS = tuple(f"{size}/{patch}" for size, ps in _USUAL_PATCHES.items() for patch in ps)

# arXiv 2010.11929 section 4.1 and 2106.10270 table 2: stem, and patch on the stem's output. The
# number in a hybrid's name is the pixels that a token stands for.
_STEMS = {
    "R+Ti/16": (ResNetStem(()), 8),
    "R26+S/32": (ResNetStem((2, 2, 2, 2)), 1),
    "R26+B/32": (ResNetStem((2, 2, 2, 2)), 1),
    "R50+B/16": (ResNetStem((3, 4, 9)), 1),
    "R50+L/32": (ResNetStem((3, 4, 6, 3)), 1),
}
HYBRID_VARIANTS = tuple(_STEMS)

# arXiv 2105.01601, table 1: width, MLP across tokens, MLP across channels, blocks.
_MIXER_SIZES = {
    "S": (512, 256, 2048, 8),
    "B": (768, 384, 3072, 12),
    "L": (1024, 512, 4096, 24),
}
MIXER_VARIANTS = tuple(f"Mixer-{name}" for name in ("S/8", "S/16", "S/32", "B/16", "B/32", "L/16"))


@dataclasses.dataclass(frozen=True)
class _Towers:
    """Image variant and pooling, text tower, widths of the two heads, tokens of a text, bias."""

    image: str
    text: str
    heads: tuple[int, int]
    max_length: int = 16
    vocab_size: int = 16_000
    siglip: bool = False


# LiT: configs/models.py of vision_transformer. SigLIP: arXiv 2303.15343 and big_vision's configs.
_TWO_TOWERS = {
    "LiT-B16B": _Towers("B/16", "bert-base", (768, 768)),
    "LiT-B16B_2": _Towers("B/16", "bert-base", (0, 768)),
    "LiT-L16L": _Towers("L/16", "bert-large", (0, 1024)),
    "LiT-L16S": _Towers("L/16", "S", (0, 1024)),
    "LiT-L16Ti": _Towers("L/16", "Ti", (0, 1024)),
    "SigLIP-B/16": _Towers("B/16", "B", (0, 768), 64, 32_000, True),
    "SigLIP-L/16": _Towers("L/16", "L", (0, 1024), 64, 32_000, True),
    "SigLIP-So400m/14": _Towers("So400m/14", "So400m", (0, 1152), 16, 32_000, True),
}
TWO_TOWER_VARIANTS = tuple(_TWO_TOWERS)
_BERT_SIZES = {"bert-base": SIZES["B"], "bert-large": SIZES["L"]}

VARIANTS = (*PLAIN_VARIANTS, *HYBRID_VARIANTS, *MIXER_VARIANTS, *TWO_TOWER_VARIANTS)


def _squeeze(name: str) -> str:
    """`ViT-B_16`, `vit_b16`, `B/16` and `b16` alike to `B16`-like text, case kept."""
    return re.sub(r"[^A-Za-z0-9]", "", re.sub(r"vit[-_/ ]?", "", name, flags=re.IGNORECASE))


def split_variant(variant: str) -> tuple[str, int] | None:
    """`B/16` and its aliases to ("B", 16); None where it isn't a plain ViT's name."""
    match = re.fullmatch(r"(.*?)(\d+)", _squeeze(str(variant)))
    if not match:
        return None
    text, patch = match[1], int(match[2])
    exact = [size for size in SIZES if _squeeze(size) == text]
    # Only g and G, g-opt and G-opt differ by case alone; there the exact spelling decides.
    loose = [size for size in SIZES if _squeeze(size).lower() == text.lower()]
    sizes = exact or (loose if len(loose) == 1 else [])
    return (sizes[0], patch) if sizes and patch > 0 else None


def plain_config(variant: str, **facts) -> ViTConfig:
    """The `ViTConfig` of a variant such as "B/16"; `facts` override or add.

    Raises:
      ValueError: for a name that isn't one, with the valid ones and the nearest.
    """
    found = split_variant(variant)
    if found is None:
        raise unknown_name("variant", variant, PLAIN_VARIANTS)
    size, patch = found
    return ViTConfig(**{**dataclasses.asdict(SIZES[size]), "patch_size": patch, **facts})


def canonical_variant(variant: str) -> str:
    """The name of a variant as `VARIANTS` has it, or "B/16" and the like for any patch.

    Args:
      variant: also an alias, such as "ViT-B_16", "R50+ViT-B_16", "R_Ti_16" or "mixer_b16".

    Raises:
      ValueError: for a name that isn't one, with the valid ones and the nearest.
    """
    name = re.sub(r"-gap-norep$", "", str(variant))
    squeezed = _squeeze(name).lower()
    for known in (*HYBRID_VARIANTS, *MIXER_VARIANTS, *TWO_TOWER_VARIANTS):
        if _squeeze(known).lower() == squeezed:
            return known
    if match := re.fullmatch(r"mixer([sbl])(\d+)", squeezed):
        return f"Mixer-{match[1].upper()}/{match[2]}"
    if found := split_variant(name):
        return f"{found[0]}/{found[1]}"
    raise unknown_name("variant", variant, VARIANTS)


def variant_config(variant: str, **facts) -> Config:
    """The config of a variant of any family.

    Args:
      variant: such as "B/16", "R50+B/16", "Mixer-B/16" or "LiT-L16S", or an alias.
      **facts: fields of the family's config, which override the variant's; those that are None
        don't. A two-tower model takes `image_size` and `channels`.

    Raises:
      ValueError: an unknown variant, or a fact that its family doesn't have.
    """
    name = canonical_variant(variant)
    facts = {key: value for key, value in facts.items() if value is not None}
    if str(variant).endswith("-gap-norep"):  # as the original names them
        facts.setdefault("classifier", "gap")
    if name in _TWO_TOWERS:
        return _two_towers_config(name, facts)
    if name in _STEMS:
        stem, patch = _STEMS[name]
        size = name.split("+")[1].split("/")[0]
        known = {**dataclasses.asdict(SIZES[size]), "patch_size": patch, "stem": stem}
        return _with_facts(ViTConfig, name, known, facts)
    if name.startswith("Mixer-"):
        size, patch = name.removeprefix("Mixer-").split("/")
        fields = ("hidden_size", "tokens_mlp_dim", "channels_mlp_dim", "num_layers")
        known = dict(zip(fields, _MIXER_SIZES[size], strict=True))
        return _with_facts(MixerConfig, name, {**known, "patch_size": int(patch)}, facts)
    size, patch = split_variant(name)
    known = {**dataclasses.asdict(SIZES[size]), "patch_size": patch}
    return _with_facts(ViTConfig, name, known, facts)


def _with_facts(kind: type, variant: str, known: dict, facts: dict):
    for fact in facts:
        if fact not in kind.__dataclass_fields__:
            raise ValueError(f"{variant} has no {fact}; it is made from {kind.__name__}.")
    return kind(**{**known, **facts})


def _two_towers_config(name: str, facts: dict) -> TwoTowersConfig:
    towers = _TWO_TOWERS[name]
    for fact in facts:
        if fact not in ("image_size", "channels", "patch_size"):
            raise ValueError(f"{fact} isn't an option of {name}, which gives embeddings.")
    image = {
        "classes": towers.heads[0],
        "classifier": "map" if towers.siglip else "token",
        "pos_embedding": "learned_before_class_token" if towers.siglip else "learned",
    }
    if towers.text in _BERT_SIZES:
        text = BertConfig(**dataclasses.asdict(_BERT_SIZES[towers.text]), classes=towers.heads[1])
    else:
        text = TextConfig(
            **dataclasses.asdict(SIZES[towers.text]),
            vocab_size=towers.vocab_size,
            max_length=towers.max_length,
            classes=towers.heads[1],
        )
    return TwoTowersConfig(
        image=plain_config(towers.image, **{**image, **facts}),
        text=text,
        has_bias=towers.siglip,
        initial_temperature=10.0 if towers.siglip else 1.0,
    )
