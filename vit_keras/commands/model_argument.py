"""A model that a user names by its file, and the names of its classes."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path

import keras

from vit_keras.checkpoints.load import from_npz
from vit_keras.export.artifacts import CLASS_NAMES


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares MODEL and what an `.npz` may need to be told besides."""
    parser.add_argument(
        "model", metavar="MODEL", help="a .keras file, an .npz checkpoint, or a training's workdir"
    )
    parser.add_argument(
        "--image_size",
        type=int,
        help="pixels to resize images and an .npz's positions to (default: the model's own)",
    )


def load_model(path: str, image_size: int | None = None) -> keras.Model:
    """Loads a `.keras` file, an `.npz` checkpoint, or the `model.keras` of a workdir.

    Raises:
      ValueError: it is none of these, or `image_size` is asked of a `.keras` file of another size.
    """
    file = Path(path)
    if file.is_dir() and (file / "model.keras").is_file():
        file = file / "model.keras"
    if not file.exists():
        near = difflib.get_close_matches(file.name, _names_beside(file), n=1)
        hint = f" Did you mean {str(file.parent / near[0])!r}?" if near else ""
        raise ValueError(f"MODEL is {path!r}, but there is no such file.{hint}")
    if file.suffix == ".npz":
        return from_npz(file, image_size=image_size)
    if file.suffix != ".keras":
        raise ValueError(
            f"MODEL is {path!r}; expected a .keras file, an .npz checkpoint, or the workdir of a "
            "finished training."
        )
    model = keras.saving.load_model(file)
    if image_size not in (None, model.input_shape[1]):
        raise ValueError(
            f"--image_size is {image_size}, but {file} was saved for "
            f"{model.input_shape[1]} pixels; give the .npz instead, whose positions are resized."
        )
    return model


def class_names_of(path: str, classes: int, given: str | None = None) -> list[str]:
    """Names of a model's classes.

    Args:
      path: of the model; a `class_names.txt` beside or below it is used.
      classes: how many there are.
      given: a file with one name a line, or the name of a data set; None to look.

    Raises:
      ValueError: the names that were given aren't as many as the classes.
    """
    from vit_keras.data.class_names import class_names

    model = Path(path)
    beside = (model if model.is_dir() else model.parent) / CLASS_NAMES
    if given is not None:
        is_file = Path(given).is_file()
        names = _lines(Path(given)) if is_file else class_names(given)
        if len(names) != classes:
            raise ValueError(
                f"--class_names {given!r} has {len(names)} names; expected the model's {classes}."
            )
        return names
    if beside.is_file() and len(_lines(beside)) == classes:
        return _lines(beside)
    published = {1000: "imagenet2012", 21843: "imagenet21k"}
    if classes in published:
        return class_names(published[classes])
    return [f"class {index}" for index in range(classes)]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _names_beside(file: Path) -> list[str]:
    return [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
