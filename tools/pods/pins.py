"""Versions that go with a TensorFlow on the workers."""

from __future__ import annotations

import re

# What all these TensorFlows agree with; without it, pip tries versions for minutes.
_COMMON = {
    "tensorflow-datasets": "4.9.10",
    "tensorflow-metadata": "1.14.0",
    "protobuf": "3.20.3",
    "numpy": "1.26.4",
}
# Keras 3 isn't pinned: its newest version depends on the image's Python.
_KERAS_2 = {"keras": "2.15.0", "tensorflow-addons": "0.23.0", "cloud-tpu-client": "0.10"}
PINS = {"2.15": {**_KERAS_2, **_COMMON}, "2.16": _COMMON, "2.17": _COMMON, "2.18": _COMMON}

SINGLE_HOST = "2.19.1"
"""The newest `tensorflow-tpu` that works; it brings its libtpu."""


def series(tensorflow: str) -> str:
    """2.15.1 -> 2.15."""
    return ".".join(tensorflow.split(".")[:2])


def image_tensorflow(runtime: str) -> str | None:
    """The TensorFlow version in a runtime image's name; None for an image without TensorFlow."""
    match = re.match(r"tpu-vm-tf-(\d+\.\d+\.\d+)(-|$)", runtime)
    return match[1] if match else None


def constraints(tensorflow: str) -> list[str]:
    """pip's constraints for a TensorFlow version; none for one that wasn't tried."""
    return [f"{name}=={version}" for name, version in PINS.get(series(tensorflow), {}).items()]


def requirements(tensorflow: str, *, preinstalled: bool) -> list[str]:
    """What is installed besides the project itself.

    Args:
      tensorflow: its version.
      preinstalled: whether the image has it; if not, `tensorflow-tpu` is installed.
    """
    found = [] if preinstalled else [f"tensorflow-tpu=={tensorflow}"]
    if series(tensorflow) == "2.15":
        return [*found, *(f"{name}=={version}" for name, version in _KERAS_2.items())]
    return [*found, "keras>=3,<4"]
