"""The named sizes."""

from __future__ import annotations

import dataclasses
import re

from vit_keras.models.config import ViTConfig
from vit_keras.models.names import unknown_name


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
