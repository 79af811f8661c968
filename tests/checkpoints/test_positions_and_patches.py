"""Resizing position embeddings and patch embeddings."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from vit_keras.checkpoints import resize_positions
from vit_keras.checkpoints.patches import resize_patches

GOLDEN = np.load(Path(__file__).parents[1] / "goldens" / "posemb_resize.npz")
SIZES = sorted(
    tuple(int(side) for side in name.split("_")[1:])
    for name in GOLDEN.files
    if name.startswith("out_")
)


@pytest.mark.parametrize(("old", "new"), SIZES)
def test_positions_are_resized_as_the_original_does(old, new):
    expected = GOLDEN[f"out_{old}_{new}"]
    resized = resize_positions(GOLDEN[f"in_{old}_{new}"], (old, old), (new, new), 1)
    assert resized.shape == expected.shape
    difference = np.abs(resized - expected)
    np.testing.assert_array_equal(resized[:, 0], expected[:, 0])
    if f"zeroedge_{old}_{new}" in GOLDEN.files and GOLDEN[f"zeroedge_{old}_{new}"].any():
        # There the original zeroes the last row and column, which is a defect.
        difference = difference[0, 1:].reshape(new, new, -1)[:-1, :-1]
    assert difference.max() <= 1e-6


def test_zeroed_edges_aren_t_reproduced():
    zeroed = [name for name in GOLDEN.files if name.startswith("zeroedge_") and GOLDEN[name].any()]
    assert zeroed
    for name in zeroed:
        old, new = (int(side) for side in name.split("_")[1:])
        stored = GOLDEN[f"in_{old}_{new}"]
        resized = resize_positions(stored, (old, old), (new, new), 1)
        np.testing.assert_allclose(resized[0, -1], stored[0, -1], atol=1e-6)


def test_positions_of_a_grid_that_isn_t_square():
    stored = np.random.default_rng(0).normal(size=(1, 6, 4)).astype(np.float32)
    resized = resize_positions(stored, (2, 3), (3, 5), 0).reshape(3, 5, 4)
    grid = stored.reshape(2, 3, 4)
    np.testing.assert_allclose(resized[::2, ::2], grid, atol=1e-6)
    np.testing.assert_allclose(resized[1, 0], grid[:, 0].mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [((8, 8), (16, 16)), ((16, 16), (8, 8)), ((6, 8), (9, 5))])
def test_patches_are_resized_by_the_pseudo_inverse(old, new):
    """Against the formula itself, with the matrix that tf.image.resize is."""
    kernel = np.random.default_rng(0).normal(size=(*old, 3, 5)).astype(np.float32)
    basis = np.eye(np.prod(old)).reshape(-1, *old, 1)
    matrix = tf.image.resize(basis, new).numpy().reshape(len(basis), -1)  # Bᵀ: (old, new)
    # Where one side grows and the other shrinks the matrix hasn't full rank but for rounding.
    expected = np.linalg.pinv(matrix.astype(np.float64), rcond=1e-5) @ kernel.reshape(
        len(basis), -1
    )
    np.testing.assert_allclose(resize_patches(kernel, new), expected.reshape(*new, 3, 5), atol=2e-5)


def test_enlarged_patches_give_the_same_tokens():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 8, 3, 5)).astype(np.float32)
    patches = rng.normal(size=(4, 8, 8, 3)).astype(np.float32)
    larger = tf.image.resize(patches, (12, 12)).numpy()
    np.testing.assert_allclose(
        np.einsum("nhwc,hwcd->nd", larger, resize_patches(kernel, (12, 12))),
        np.einsum("nhwc,hwcd->nd", patches, kernel),
        atol=1e-4,
    )
