"""Patch embeddings at another patch size."""

from __future__ import annotations

import numpy as np

from vit_keras.layers.resizing import patch_matrix


def resize_patches(kernel: np.ndarray, patch_size: tuple[int, int]) -> np.ndarray:
    """Resizes a patch embedding's kernel by the pseudo-inverse of the images' bilinear resize.

    FlexiViT (Beyer et al. 2022, arXiv 2212.08013, equation 4), `(Bᵀ)⁺ w`, where B resizes a patch
    of the old size to the new one as `tf.image.resize` does (half-pixel centres, no antialias).
    Enlarged patches of an enlarged image then give the very tokens that they gave before.

    Args:
      kernel: (height, width, channels, hidden_size).
      patch_size: (height, width) wanted.

    Returns:
      float32 (*patch_size, channels, hidden_size).
    """
    if kernel.shape[:2] == tuple(patch_size):
        return np.asarray(kernel, np.float32)
    # B is separable, and so is its pseudo-inverse: one matrix for rows, one for columns.
    rows, columns = (
        patch_matrix(old, new) for old, new in zip(kernel.shape[:2], patch_size, strict=True)
    )
    kernel = kernel.astype(np.float64)
    return np.einsum("Hh,Ww,hwcd->HWcd", rows, columns, kernel, optimize=True).astype(np.float32)
