"""What the engine's tests share."""

import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits

sys.path.insert(0, str(pathlib.Path(__file__).parent))  # for tiny_training


@pytest.fixture(params=[1, 2, 4])
def any_strategy(request):
    """One CPU, and two and four replicas on logical CPUs."""
    from vit_keras.training import get_strategy

    return get_strategy("mirrored", num_devices=request.param)


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory):
    """A folder of 40 real digits as PNG files, two classes, 32 to train and 8 to test."""
    folder = tmp_path_factory.mktemp("digits")
    pixels, labels = load_digits(n_class=2, return_X_y=True)
    for number in range(40):
        split = "train" if number < 32 else "test"
        path = folder / split / str(labels[number]) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixel = (pixels[number].reshape(8, 8, 1) * 15).astype(np.uint8)
        path.write_bytes(tf.io.encode_png(np.repeat(pixel, 3, -1)).numpy())
    return folder
