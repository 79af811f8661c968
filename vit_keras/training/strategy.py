"""Distribution strategies by name."""

from __future__ import annotations

import os

import tensorflow as tf
from absl import logging

from vit_keras.names import unknown_name
from vit_keras.training.multi_worker import environment_workers, multi_worker_strategy
from vit_keras.training.tpu import tpu_strategy

STRATEGIES = ("auto", "tpu", "mirrored", "multi_worker", "one_device")


def get_strategy(
    name: str = "auto", *, tpu: str | None = None, num_devices: int | None = None
) -> tf.distribute.Strategy:
    """Returns a `tf.distribute` strategy.

    Args:
      name: `auto` (the workers of the environment variable TF_CONFIG if it names several, else a
        TPU if there is one, else all GPUs, else the CPU), `tpu`, `mirrored`, `multi_worker` (those
        of TF_CONFIG), `one_device`.
      tpu: a TPU's name, `local` for the one that this host holds, or gRPC addresses
        (`grpc://10.0.0.2:8470,grpc://...`). Default: the environment variable TPU_NAME, or `local`.
      num_devices: how many local devices `mirrored` uses; default all. Without GPUs these are
        (logical) CPU devices.

    Raises:
      ValueError: for an unknown name, more devices than there are, no TF_CONFIG, or a TPU that
        can't be reached or used; see `tpu.tpu_strategy`.
    """
    if name == "auto":
        name = _best_strategy(tpu)
        logging.info("Strategy %r was chosen for this machine.", name)
    if name == "tpu":
        return tpu_strategy(tpu)
    if name == "mirrored":
        return _mirrored_strategy(_local_devices(num_devices))
    if name == "multi_worker":
        return multi_worker_strategy()
    if name == "one_device":
        return tf.distribute.OneDeviceStrategy(_local_devices(1)[0])
    raise unknown_name("strategy", name, STRATEGIES)


def _best_strategy(tpu: str | None) -> str:
    if len(environment_workers()) > 1:
        return "multi_worker"
    if tpu or os.environ.get("TPU_NAME") or tf.config.list_physical_devices("TPU"):
        return "tpu"
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return "mirrored"
    return "one_device"


def _local_devices(num_devices: int | None) -> list[str]:
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if num_devices is not None and not 1 <= num_devices <= len(devices):
        raise ValueError(f"num_devices is {num_devices}; this machine has {len(devices)}.")
    return [f"{device.device_type}:{device.name.split(':')[-1]}" for device in devices][
        :num_devices
    ]


def _mirrored_strategy(devices: list[str]) -> tf.distribute.Strategy:
    if devices[0].startswith("GPU"):
        return tf.distribute.MirroredStrategy(devices)
    # Collectives between logical CPUs would bind the whole process to one number of replicas; and
    # this way sums have a fixed order.
    one_by_one = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=one_by_one)


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what all of them share (checkpoints, metrics)."""
    return strategy.extended.should_checkpoint
