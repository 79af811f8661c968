"""The directory of a run: whose it is, what made it, and how it ended."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

# What may differ between two starts of one run, because no weight depends on it.
MAY_CHANGE = (
    "checkpoint_every",
    "eval_every",
    "evaluators",
    "hang_seconds",
    "keep_checkpoints",
    "keep_checkpoint_every",
    "num_devices",
    "prefetch",
    "profile",
    "progress_every",
    "steps_per_loop",
    "strategy",
    "tfds_data_dir",
    "tfds_manual_dir",
    "tpu",
    "batch_eval",
)


def claim(workdir: str, config: Mapping[str, Any], *, write: bool = True) -> None:
    """Makes `workdir` this config's, or checks that it is.

    Args:
      workdir: local or `gs://`.
      config: of nothing but what JSON can hold.
      write: False in workers that share the directory with the one that writes.

    Raises:
      ValueError: if it belongs to another config; the message lists the differences.
    """
    path = os.path.join(workdir, "config.json")
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path) as file:
            earlier = json.loads(file.read())
        differences = list(_differences(earlier, json.loads(json.dumps(config))))
        if differences:
            raise ValueError(
                f"workdir {workdir} belongs to another config. Use another directory, or the old "
                "values of:\n  " + "\n  ".join(differences)
            )
    elif write:
        tf.io.gfile.makedirs(workdir)
        write_json(path, config)


def _differences(earlier: Mapping, now: Mapping, prefix: str = "") -> Iterable[str]:
    for key in sorted(earlier.keys() | now.keys()):
        name = prefix + key
        if name in MAY_CHANGE:
            continue
        old, new = earlier.get(key, "(not set)"), now.get(key, "(not set)")
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{name}.")
        elif old != new:
            yield f"config.{name}: was {old!r}, is {new!r}"


def environment(strategy: tf.distribute.Strategy) -> dict[str, Any]:
    """What a run's numbers depend on besides its config."""
    packages = (
        "vit_keras",
        "tensorflow",
        "tensorflow-tpu",
        "keras",
        "tensorflow-datasets",
        "numpy",
    )
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": versions,
        "strategy": type(strategy).__name__,
        "replicas": strategy.num_replicas_in_sync,
        "devices": [device.name for device in tf.config.list_logical_devices()],
        "command": sys.argv,
    }


def read_result(workdir: str) -> dict[str, Any] | None:
    """What `write_result` wrote when the run finished; None if it hasn't."""
    path = os.path.join(workdir, "result.json")
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.loads(file.read())


def write_result(workdir: str, result: Mapping[str, Any]) -> None:
    """Marks the run as finished."""
    write_json(os.path.join(workdir, "result.json"), result)


def write_json(path: str, value: Mapping[str, Any]) -> None:
    """Writes `value` as JSON under a temporary name, then renames."""
    temporary = path + ".tmp"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(json.dumps(value, indent=2, sort_keys=True) + "\n")
    tf.io.gfile.rename(temporary, path, overwrite=True)
