"""Position embeddings at another resolution."""

from __future__ import annotations

import numpy as np


def resize_positions(
    embedding: np.ndarray,
    old_grid: tuple[int, int],
    new_grid: tuple[int, int],
    prefix_tokens: int,
) -> np.ndarray:
    """Resizes position embeddings bilinearly with aligned corners (arXiv 2010.11929, section 3.2).

    This is what `scipy.ndimage.zoom(order=1)`, which the original uses, computes, without its
    zeroed last row and column at some sizes. `tf.image.resize` is another function.

    Args:
      embedding: (1, prefix_tokens + rows * columns, hidden_size).
      old_grid: (rows, columns) of `embedding`.
      new_grid: (rows, columns) wanted.
      prefix_tokens: leading positions that belong to no patch; they stay as they are.

    Returns:
      float32 (1, prefix_tokens + new rows * new columns, hidden_size).
    """
    if tuple(old_grid) == tuple(new_grid):
        return np.asarray(embedding, np.float32)
    prefix, patches = embedding[:, :prefix_tokens], embedding[:, prefix_tokens:]
    grid = patches.reshape(*old_grid, embedding.shape[-1]).astype(np.float64)
    grid = _resize_axis(_resize_axis(grid, 0, new_grid[0]), 1, new_grid[1])
    patches = grid.reshape(1, -1, embedding.shape[-1])
    return np.concatenate([prefix, patches], axis=1).astype(np.float32)


def _resize_axis(grid: np.ndarray, axis: int, size: int) -> np.ndarray:
    old_size = grid.shape[axis]
    where = np.linspace(0.0, old_size - 1.0, size)
    lower = np.minimum(np.floor(where).astype(int), max(old_size - 2, 0))
    upper = np.minimum(lower + 1, old_size - 1)
    weight = (where - lower).reshape([-1 if a == axis else 1 for a in range(grid.ndim)])
    return np.take(grid, lower, axis) * (1 - weight) + np.take(grid, upper, axis) * weight
