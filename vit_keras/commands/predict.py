"""Classify image files: the most probable classes and their probabilities.

  vit-keras predict MODEL IMAGE...

MODEL is a .keras file, an .npz checkpoint, or the workdir of a finished training. Images (JPEG,
PNG, GIF, BMP) are resized to the model's size, as in the recipe's evaluation. Class names come from
class_names.txt beside the model, from ImageNet's where there are 1000 or 21843 classes, or from
--class_names.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own arguments."""
    from vit_keras.commands.model_argument import add_model_arguments

    add_model_arguments(parser)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files")
    parser.add_argument("--top", type=int, default=5, help="how many classes to show (default: 5)")
    parser.add_argument("--class_names", help="a file with one name a line, or a data set's name")


def run(arguments: argparse.Namespace) -> None:
    """Prints the most probable classes of each image."""
    from vit_keras.checkpoints.describe import head_is_zero
    from vit_keras.commands.model_argument import class_names_of, load_model

    if arguments.top < 1:
        raise ValueError(f"--top is {arguments.top}; expected at least 1.")
    model = load_model(arguments.model, arguments.image_size)
    if len(model.output_shape) != 2 or not any(layer.name == "head" for layer in model.layers):
        raise ValueError(f"{arguments.model} has no head that classifies images.")
    names = class_names_of(arguments.model, model.output_shape[-1], arguments.class_names)
    if head_is_zero(model):
        print(
            f"{arguments.model}: the head is all zeros, so every class is as probable as any "
            "other. Fine-tune it first.",
            file=sys.stderr,
        )
    # All are read before the first is classified: a bad file shows at once.
    images = [read_image(path, model.input_shape[1:3]) for path in arguments.images]
    for path, image in zip(arguments.images, images, strict=True):
        probabilities = probabilities_of(model, image[None])[0]
        print(path)
        for index in np.argsort(-probabilities, kind="stable")[: arguments.top]:
            print(f"  {100 * probabilities[index]:6.2f} %  {names[index]}")


def read_image(path: str, size: tuple[int, int]) -> np.ndarray:
    """Reads and preprocesses an image file as the recipe's evaluation does.

    Args:
      path: local or `gs://`.
      size: (height, width) of the model.

    Returns:
      float32 (height, width, 3) in [-1, 1].

    Raises:
      ValueError: there is no such file, or it is no image.
    """
    import tensorflow as tf

    from vit_keras.data import build_pipeline, presets

    pipeline = build_pipeline(presets.finetune_eval(tuple(size), transport="float32"))
    try:
        content = tf.io.read_file(path)
    except tf.errors.OpError as error:
        raise ValueError(f"IMAGE {path!r} can't be read: {error.message}") from error
    try:
        example = pipeline({"image": content}, tf.zeros(2, tf.int32))
    except (tf.errors.OpError, ValueError) as error:
        raise ValueError(f"IMAGE {path!r} is not an image that can be decoded: {error}") from error
    return example["image"].numpy()


def probabilities_of(model, images: np.ndarray) -> np.ndarray:
    """Softmax of the model's logits; as it is where the model ends in an activation."""
    outputs = np.asarray(model(images, training=False), np.float64)
    if model.layers[-1].name != "head":
        return outputs
    exponentials = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
