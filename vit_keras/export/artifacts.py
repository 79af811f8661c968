"""What a finished run leaves behind for its users."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import tensorflow as tf

from vit_keras.checkpoints.save import save_npz
from vit_keras.export.saved_model import export_saved_model
from vit_keras.files import replace_when_done

CLASS_NAMES = "class_names.txt"


def write_artifacts(model: keras.Model, workdir: str, class_names: list[str]) -> dict[str, str]:
    """Writes `model.keras`, `saved_model/`, `model.npz` and `class_names.txt` into `workdir`.

    What is there already stays as it is, so a run that was cut off here is completed by the next.

    Args:
      model: to be saved.
      workdir: local or `gs://`; it exists.
      class_names: one for each output of the head.

    Returns:
      Their paths by file name.
    """
    writers: dict[str, Callable[[Path], None]] = {
        "model.keras": lambda path: _save_keras(model, path),
        "saved_model": lambda path: export_saved_model(model, path),
        "model.npz": lambda path: save_npz(model, path),
        CLASS_NAMES: lambda path: _write_lines(class_names, path),
    }
    paths = {name: os.path.join(workdir, name) for name in writers}
    for name, write in writers.items():
        if not tf.io.gfile.exists(paths[name]):
            with _local(paths[name]) as path:
                write(path)
    return paths


def _save_keras(model: keras.Model, path: Path) -> None:
    with replace_when_done(path) as temporary:
        model.save(temporary)


def _write_lines(lines: list[str], path: Path) -> None:
    with replace_when_done(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@contextlib.contextmanager
def _local(path: str) -> Iterator[Path]:
    """A local path to write to; what is written there is copied to `path` if that is remote."""
    if "://" not in path:
        yield Path(path)
        return
    directory = tempfile.mkdtemp()
    try:
        local = Path(directory) / os.path.basename(path)
        yield local
        # A SavedModel is only complete with its saved_model.pb, so that one goes last.
        files = [local] if local.is_file() else [p for p in local.rglob("*") if p.is_file()]
        for file in sorted(files, key=lambda file: file.name == "saved_model.pb"):
            relative = file.relative_to(local.parent).as_posix()
            target = os.path.join(os.path.dirname(path), relative)
            tf.io.gfile.makedirs(os.path.dirname(target))
            tf.io.gfile.copy(str(file), target, overwrite=True)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
