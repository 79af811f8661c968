"""MultiWorkerMirroredStrategy whose workers notice in a known time that another one is gone."""

from __future__ import annotations

import functools
import json
import os
import re

import tensorflow as tf
from tensorflow.python.eager import context

HEARTBEAT_TIMEOUT_SECONDS = 20
"""A worker that sends no heartbeat for so long is reported dead to all others."""

REGISTER_TIMEOUT_SECONDS = 300
"""How long a worker waits for the first one when it starts; TensorFlow's own default is an hour."""


def environment_workers() -> list[str]:
    """The workers' addresses that TF_CONFIG names; empty without it."""
    return json.loads(os.environ.get("TF_CONFIG", "{}")).get("cluster", {}).get("worker", [])


def multi_worker_strategy() -> tf.distribute.Strategy:
    """The workers of the environment variable TF_CONFIG, this process being one of them.

    Raises:
      ValueError: if TF_CONFIG names no workers.
    """
    if not environment_workers():
        raise ValueError(
            "strategy is 'multi_worker', which reads the workers from the environment variable "
            f"TF_CONFIG; that is {os.environ.get('TF_CONFIG')!r}. Expected "
            '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.'
        )
    eager = context.context()
    # The strategy configures TensorFlow's coordination service and leaves its times at their
    # defaults; no public function sets them.
    eager.configure_coordination_service = functools.partial(
        eager.configure_coordination_service,
        heartbeat_timeout_in_ms=1000 * HEARTBEAT_TIMEOUT_SECONDS,
        cluster_register_timeout_in_ms=1000 * REGISTER_TIMEOUT_SECONDS,
    )
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        del eager.configure_coordination_service
    _broadcast_bfloat16(strategy.extended)
    return strategy


def lost_worker(error: tf.errors.OpError) -> str | None:
    """Why TensorFlow gave up, if `error` says that another worker is gone; else None."""
    message = error.message
    gone = (
        tf.errors.UnavailableError,
        tf.errors.AbortedError,
        tf.errors.DeadlineExceededError,
    )
    if "Collective ops is aborted by" not in message and not isinstance(error, gone):
        return None
    # Which may be nested, one for each worker that the news came through.
    reason = message.rpartition("Collective ops is aborted by: ")[2]
    reason = re.split(r"\n(?:The error could|The tasks have|Additional GRPC)|\\n", reason)[0]
    return " ".join(reason.split())[:300].rstrip(".") + "."


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes run this program side by side."""
    return getattr(strategy.extended, "_num_workers", 1) > 1


def _broadcast_bfloat16(extended: tf.distribute.StrategyExtended) -> None:
    """Lets bfloat16 variables be created: the chief's initial values are broadcast as float32.

    The broadcast of the CPU and GPU collectives doesn't know bfloat16; each of its values is a
    float32 value, so nothing is lost.
    """
    original = extended._get_variable_creator_initial_value

    def creator(replica_id, device, primary_var, **kwargs):
        value, dtype = kwargs["initial_value"], kwargs.get("dtype")
        if not tf.is_tensor(value) or tf.as_dtype(dtype or value.dtype) != tf.bfloat16:
            return original(replica_id, device, primary_var, **kwargs)
        kwargs |= {"initial_value": tf.cast(value, tf.float32), "dtype": tf.float32}
        as_float32 = original(replica_id, device, primary_var, **kwargs)
        return lambda: tf.cast(as_float32(), tf.bfloat16)

    extended._get_variable_creator_initial_value = creator
