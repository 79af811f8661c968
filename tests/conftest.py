"""What every test has at hand."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import pytest
import tensorflow as tf

# Four replicas on one machine. It must be said before TensorFlow first looks at its devices.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 4
)

GOLDENS = Path(__file__).parent / "goldens"


def pytest_collection_modifyitems(items):
    """Quick tests first, so that a mistake shows early."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def goldens():
    """The folder of what the JAX reference computed."""
    return GOLDENS
