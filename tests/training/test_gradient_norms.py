"""Sums of squares that replicas share the work of."""

import math

import numpy as np
import pytest
import tensorflow as tf

from vit_keras.layers import target
from vit_keras.training.gradient_norms import shares, sums_of_squares

SHAPES = [(48, 256), (256, 3, 64), (3, 64, 256), (), (7,), (7,), (2, 5), (11, 1024), (9000,)]


@pytest.mark.parametrize("for_tpu", [False, True])
def test_as_numpy_on_any_number_of_replicas(any_strategy, for_tpu):
    rng = np.random.default_rng(0)
    gradients = [rng.normal(size=shape).astype(np.float32) for shape in SHAPES]

    @tf.function
    def run():
        def on_replica():
            if not for_tpu:
                return sums_of_squares([tf.constant(g) for g in gradients])
            with target.tpu():
                return sums_of_squares([tf.constant(g) for g in gradients])

        return any_strategy.run(on_replica)

    for measured in any_strategy.experimental_local_results(run()):
        np.testing.assert_allclose(measured, [np.sum(np.square(g)) for g in gradients], rtol=1e-5)


@pytest.mark.parametrize("replicas", [1, 2, 3, 8, 256])
def test_shares_are_equal_and_all_there(replicas):
    for shape in SHAPES:
        if not shape:
            continue
        splits = shares(shape, replicas)
        assert replicas % math.prod(splits) == 0
        assert all(length % split == 0 for length, split in zip(shape, splits, strict=True))


def test_lanes_stay_whole():
    assert shares((1024, 4096), 8) == [8, 1]
    assert shares((4096, 1024), 256) == [256, 1]
    assert shares((768, 12, 64), 8) == [1, 4, 2]
    assert shares((12, 64, 768), 256) == [4, 64, 1]
    assert shares((1000,), 8) == [1]
