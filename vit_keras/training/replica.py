"""The few operations of a step that depend on how many replicas there are."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

Sum = Callable[[list[tf.Tensor]], list[tf.Tensor]]
_current = threading.local()  # a strategy may trace each replica in a thread of its own


@contextlib.contextmanager
def compiled_for(replicas: int, sum_over_replicas: Sum) -> Iterator[None]:
    """Traces inside what `replicas` would run, where no strategy does: the program is for XLA.

    Args:
      replicas: how many.
      sum_over_replicas: as the function of this name.
    """
    _current.scope = (replicas, sum_over_replicas)
    try:
        yield
    finally:
        _current.scope = None


def _scope() -> tuple[int, Sum] | None:
    return getattr(_current, "scope", None)


def num_replicas() -> int:
    """How many replicas share a step."""
    if _scope() is not None:
        return _scope()[0]
    return tf.distribute.get_replica_context().num_replicas_in_sync


def sum_over_replicas(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
    """Sums each tensor over all replicas, in one all-reduce for the whole list."""
    if num_replicas() == 1:
        return tensors
    if _scope() is not None:
        return _scope()[1](tensors)
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def gather_over_replicas(rows: tf.Tensor) -> tf.Tensor:
    """All replicas' rows in order, (batch, width) -> (global batch, width), differentiable."""
    if num_replicas() == 1:
        return rows
    if _scope() is not None:
        return _gather_by_sum(rows)
    return tf.distribute.get_replica_context().all_gather(rows, axis=0)


def _gather_by_sum(rows: tf.Tensor) -> tf.Tensor:
    """Sums what each replica has in its own place: about twice the bytes of a proper gather."""
    batch, width = rows.shape
    number = replica_id()

    @tf.custom_gradient
    def gather(rows):
        places = tf.one_hot(number, num_replicas(), dtype=rows.dtype)
        own = tf.reshape(places[:, None, None] * rows, [-1, width])

        def gradient(upstream):
            whole = sum_over_replicas([upstream])[0]
            return tf.slice(whole, [number * batch, 0], [batch, width])

        return sum_over_replicas([own])[0], gradient

    return gather(rows)


def replica_id() -> tf.Tensor:
    """This replica's number, an int32 scalar."""
    if _scope() is not None:
        return tf.cast(xla.replica_id(), tf.int32)
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
