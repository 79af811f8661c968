"""The matrices by which patch embeddings and position embeddings are resized along one side."""

from __future__ import annotations

import numpy as np


def patch_matrix(old: int, new: int) -> np.ndarray:
    """`(Bᵀ)⁺` of FlexiViT (arXiv 2212.08013, equation 4) along one side, float64 (new, old).

    B resizes `old` pixels to `new` as `tf.image.resize` does (half-pixel centres, no antialias).
    """
    where = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    return np.linalg.pinv(_bilinear(where, old).T)


def position_matrix(old: int, new: int) -> np.ndarray:
    """Bilinear with aligned corners (arXiv 2010.11929, section 3.2), float64 (new, old)."""
    return _bilinear(np.linspace(0.0, old - 1.0, new), old)


def _bilinear(where: np.ndarray, old: int) -> np.ndarray:
    """Row n interpolates between the two of `old` samples that are next to `where[n]`."""
    lower = np.minimum(np.floor(where).astype(int), max(old - 2, 0))
    upper = np.minimum(lower + 1, old - 1)
    matrix = np.zeros((len(where), old))
    np.add.at(matrix, (np.arange(len(where)), lower), 1 - (where - lower))
    np.add.at(matrix, (np.arange(len(where)), upper), where - lower)
    return matrix
