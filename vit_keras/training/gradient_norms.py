"""Norms of gradients that every replica holds a copy of."""

from __future__ import annotations

import collections
import math
from collections.abc import Sequence

import tensorflow as tf

from vit_keras.layers import target
from vit_keras.training import replica

# Of the TPU's vector registers, (8, 128).
_LANES = 128
# Gradients up to this size cost their operation rather than their bytes.
_SMALL = 1 << 13


def sums_of_squares(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of squares of each gradient, float32 (len(gradients),).

    Args:
      gradients: float32, the same on all replicas: they have been summed already.

    On TPUs each replica squares its own share of each gradient and the shares' sums are summed over
    the replicas. Reading all gradients once more costs a replica 4 % of a step of L/16, adding
    up a few hundred numbers nearly nothing.
    """
    replicas = replica.num_replicas()
    if not target.is_tpu():
        return 2.0 * tf.stack([tf.nn.l2_loss(gradient) for gradient in gradients])
    number = replica.replica_id()
    sums = [None] * len(gradients)
    small = collections.defaultdict(list)
    for index, gradient in enumerate(gradients):
        if gradient.shape.num_elements() <= _SMALL:
            small[tuple(gradient.shape)].append(index)
        else:
            sums[index] = _square_of_share(gradient, number, replicas)
    for indices in small.values():
        # All of a shape by one operation; replicas all compute the same, which is cheaper.
        together = tf.stack([gradients[index] for index in indices])
        axes = range(1, len(together.shape))
        squares = tf.unstack(tf.reduce_sum(tf.square(together), axis=axes) / replicas)
        for index, square in zip(indices, squares, strict=True):
            sums[index] = square
    return replica.sum_over_replicas([tf.stack(sums)])[0]


def _square_of_share(gradient: tf.Tensor, number: tf.Tensor, replicas: int) -> tf.Tensor:
    """Sum of squares of one of `replicas` parts; a part that several have counts less."""
    splits = shares(tuple(gradient.shape), replicas)
    size = [length // split for length, split in zip(gradient.shape, splits, strict=True)]
    begin = []
    for length, split in zip(size, splits, strict=True):
        begin.append(number % split * length)
        number //= split
    share = tf.slice(gradient, begin, size)
    return 2.0 * tf.nn.l2_loss(share) * (math.prod(splits) / replicas)


def shares(shape: tuple[int, ...], replicas: int) -> list[int]:
    """Into how many parts each axis is cut: as many in all as divide `replicas` evenly.

    The axis that XLA lays along the lanes stays whole (the last if it fills them, else the
    largest): part of a register costs as much as all of it.
    """
    splits = [1] * len(shape)
    last = len(shape) - 1
    lanes = last if shape[-1] >= _LANES else max(range(len(shape)), key=shape.__getitem__)
    for axis, length in enumerate(shape):
        if axis != lanes:
            splits[axis] = math.gcd(length, replicas // math.prod(splits))
    return splits
