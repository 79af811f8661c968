"""The few operations of a step that depend on how many replicas there are."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over all replicas, in one all-reduce for the whole list."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return tensors
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def replica_id() -> tf.Tensor:
    """This replica's number, an int32 scalar."""
    context = tf.distribute.get_replica_context()
    return tf.cast(context.replica_id_in_sync_group, tf.int32)


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    """Writes each replica's value to its own copy of a variable, without any reduction.

    Goes the way that Keras' optimizers go, the one that every strategy supports. All replicas must
    hold the same values: the caller has reduced whatever they were computed from.
    """

    def update(strategy, *values):
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable, lambda copy, new: copy.assign(new), args=(value,), group=False
            )

    tf.__internal__.distribute.interim.maybe_merge_call(
        update, tf.distribute.get_strategy(), *values
    )
