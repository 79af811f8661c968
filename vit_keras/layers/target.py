"""What a layer is being traced for: XLA's TPU compiler, or TensorFlow's own kernels.

The same product is fastest in different forms. The TPU compiler wants einsums over the axes as they
are, whose layouts it chooses itself; on CPUs and GPUs TensorFlow runs operation by operation, and
fuses only a plain matrix product with its bias and activation. Values agree but for rounding.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import tensorflow as tf

_current = threading.local()  # a strategy may trace each replica in a thread of its own


@contextlib.contextmanager
def tpu() -> Iterator[None]:
    """Layers called inside take the TPU's forms, also where there is no TPU (see `preflight`)."""
    previous = getattr(_current, "tpu", False)
    _current.tpu = True
    try:
        yield
    finally:
        _current.tpu = previous


def is_tpu() -> bool:
    """Whether the current strategy is TPU's, or `tpu()` says so."""
    return getattr(_current, "tpu", False) or isinstance(
        tf.distribute.get_strategy(), tf.distribute.TPUStrategy
    )
