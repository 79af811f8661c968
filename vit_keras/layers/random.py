"""Where the layers' random numbers come from.

The layers keep no random state, so checkpoints hold none and replicas can't share it by
accident. A training step opens a `seed_scope` with a seed made from the run's seed, the step,
the micro-batch and the replica; outside of one, TensorFlow's global generator serves.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

_current = threading.local()  # MirroredStrategy runs each replica in a thread of its own


class SeedScope:
    """A seed and, for each layer that asked, the number folded into it."""

    def __init__(self, seed: tf.Tensor):
        self.seed = seed
        self._numbers: dict[int, int] = {}

    def seed_for(self, layer: object) -> tf.Tensor:
        """The layer's own seed: the same one each time, also when a block is recomputed."""
        number = self._numbers.setdefault(id(layer), len(self._numbers))
        return tf.random.experimental.stateless_fold_in(self.seed, number)


@contextlib.contextmanager
def seed_scope(seed: tf.Tensor) -> Iterator[SeedScope]:
    """Makes the layers called inside draw from `seed`, an integer tensor of shape (2,)."""
    with enter_scope(SeedScope(tf.convert_to_tensor(seed))) as scope:
        yield scope


@contextlib.contextmanager
def enter_scope(scope: SeedScope | None) -> Iterator[SeedScope | None]:
    """Enters a scope taken earlier with `current_scope` (None: no scope)."""
    previous = current_scope()
    _current.scope = scope
    try:
        yield scope
    finally:
        _current.scope = previous


def current_scope() -> SeedScope | None:
    """The innermost `seed_scope` of this thread, if any."""
    return getattr(_current, "scope", None)


def uniform(layer: object, shape: tf.Tensor | list) -> tf.Tensor:
    """Float32 uniform numbers in [0, 1) for `layer`."""
    scope = current_scope()
    if scope is None:
        return tf.random.uniform(shape)
    return tf.random.stateless_uniform(shape, seed=scope.seed_for(layer))


def drop(layer: object, inputs: tf.Tensor, rate: float, mask_shape: tf.Tensor) -> tf.Tensor:
    """Zeroes a share `rate` of `inputs`, as one mask of `mask_shape` says, and scales up the rest.

    `mask_shape` is the inputs' shape, or has ones where the mask is broadcast.
    """
    keep = uniform(layer, mask_shape) >= rate
    scaled = inputs * tf.cast(1.0 / (1.0 - rate), inputs.dtype)
    return tf.where(keep, scaled, tf.zeros_like(inputs))
