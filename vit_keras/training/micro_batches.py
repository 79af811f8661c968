"""Gradients of a batch, taken one part after the other to need less memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from vit_keras.layers import target
from vit_keras.training import replica

Batch = dict[str, tf.Tensor]
Gradients = tuple[tf.Tensor, list[tf.Tensor]]

# More parts than these become a loop, whose program doesn't grow with their number.
_MOST_IN_LINE = 4


def accumulate(
    gradients: Callable[[Batch, tf.Tensor], Gradients],
    batch: Batch,
    seed: tf.Tensor,
    parameters: Sequence[tf.Variable],
    parts: int,
) -> Gradients:
    """Sums what `gradients` returns of each part of a batch.

    Args:
      gradients: `(batch, seed) -> (loss, gradients)`: a float32 scalar, and a float32 tensor for
        each of `parameters`.
      batch: tensors whose first axes have the same known size.
      seed: int32 (2,); each part gets its own, folded from it.
      parameters: all variables that `gradients` differentiates with respect to.
      parts: micro-batches.

    Returns:
      The sums of the losses and of the gradients.

    Raises:
      ValueError: if the batch doesn't divide into `parts`.
    """
    if parts == 1:
        return gradients(batch, seed)
    size = next(iter(batch.values())).shape[0]
    if size is None or size % parts:
        raise ValueError(
            f"A replica's share of the batch is {size}; expected a multiple of accum_steps "
            f"({parts})."
        )
    # Reshaped here because XLA needs static sizes, which slices between tensors don't have.
    shape = (parts, size // parts)
    micro_batches = {key: tf.reshape(x, (*shape, *x.shape[1:])) for key, x in batch.items()}

    def part(index):
        micro_batch = {key: x[index] for key, x in micro_batches.items()}
        return gradients(micro_batch, tf.random.experimental.stateless_fold_in(seed, index))

    if target.is_tpu() and parts <= _MOST_IN_LINE:
        return _in_line(part, parameters, parts)
    return _in_a_loop(part, parameters, parts)


def _in_a_loop(part, parameters, parts: int) -> Gradients:
    zeros = tf.constant(0.0), [tf.zeros(p.shape, tf.float32) for p in parameters]
    _, total = tf.while_loop(
        lambda index, _: index < parts,
        lambda index, total: (index + 1, _add(total, part(index))),
        (tf.constant(0), zeros),
        maximum_iterations=parts,
    )
    return total


def _in_line(part, parameters, parts: int) -> Gradients:
    """One part written after the other, which the TPU compiler makes a faster program of.

    A loop starts from zeros, and its casts of the weights to bfloat16 are taken out of it, to be
    written once and read in each round, which costs more than casting where they are used. Without
    a loop the compiler would share these casts all the same, and run the parts side by side, which
    needs the memory of both. So a barrier stands between them, through which the weights go, too.
    """
    loss, sums = part(tf.constant(0))
    for number in range(1, parts):
        weights = [parameter.read_value() for parameter in parameters]
        loss, index, *rest = xla.optimization_barrier(loss, tf.constant(number), *sums, *weights)
        sums, weights = rest[: len(sums)], rest[len(sums) :]
        replica.assign(parameters, weights)
        loss, sums = _add((loss, sums), part(index))
    return loss, sums


def _add(total: Gradients, more: Gradients) -> Gradients:
    return total[0] + more[0], [a + b for a, b in zip(total[1], more[1], strict=True)]
