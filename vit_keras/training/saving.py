"""Checkpoints of a run: one `.npz` file each, which appears whole or not at all."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from absl import logging

_NAME = re.compile(r"checkpoint_(\d{9})\.npz$")
_INFO = "__info__"
BFLOAT16 = tf.bfloat16.as_numpy_dtype


class CheckpointError(RuntimeError):
    """A checkpoint could not be written or read; the message names the last good one."""


@dataclasses.dataclass(frozen=True)
class Checkpoints:
    """The checkpoints in `directory`, a local path or `gs://...`.

    A file is written under a temporary name, flushed to disk, then renamed: whoever sees
    `checkpoint_*.npz` sees a complete one (an object in Google Cloud Storage is complete when it
    is visible at all). Arrays carry checksums (a zip file's CRC-32), so damage is noticed.

    Attributes:
      directory: made when first needed.
      keep: how many of the newest to keep.
      keep_every: also keep those of every so many steps; 0: none.
    """

    directory: str
    keep: int = 2
    keep_every: int = 0

    def path(self, step: int) -> str:
        """Where the checkpoint of `step` stands."""
        return os.path.join(self.directory, f"checkpoint_{step:09d}.npz")

    def steps(self) -> list[int]:
        """Steps of all complete checkpoints, oldest first."""
        if not tf.io.gfile.isdir(self.directory):
            return []
        found = map(_NAME.match, tf.io.gfile.listdir(self.directory))
        return sorted(int(match.group(1)) for match in found if match)

    def latest(self) -> str | None:
        """Path of the newest complete checkpoint."""
        steps = self.steps()
        return self.path(steps[-1]) if steps else None

    def save(self, step: int, arrays: Mapping[str, np.ndarray], info: dict) -> str:
        """Writes a checkpoint, removes what is no longer kept, and returns its path.

        Args:
          step: its number.
          arrays: name -> array; bfloat16 is stored as its 16 bits.
          info: anything that JSON can hold.

        Raises:
          CheckpointError: if it can't be written; the earlier ones are untouched.
        """
        path = self.path(step)
        try:
            tf.io.gfile.makedirs(self.directory)
            self._remove_temporaries()
            _write_atomically(path, arrays, info)
        except (OSError, tf.errors.OpError) as error:
            raise CheckpointError(
                f"Could not write the checkpoint {path}: {error}. " + self._last_good()
            ) from error
        self._remove_old(step)
        return path

    def restore(self, path: str) -> tuple[dict[str, np.ndarray], dict]:
        """Reads a checkpoint: its arrays and its info.

        Raises:
          CheckpointError: if it is damaged; the message names the newest other one.
        """
        try:
            return _read(path)
        except (
            OSError,
            EOFError,
            ValueError,
            KeyError,
            zipfile.BadZipFile,
            tf.errors.OpError,
        ) as error:
            raise CheckpointError(
                f"Could not read the checkpoint {path}: {type(error).__name__}: {error}. "
                + self._last_good(other_than=path)
                + " Remove the damaged file to continue from there."
            ) from error

    def _last_good(self, other_than: str | None = None) -> str:
        for step in reversed(self.steps()):
            path = self.path(step)
            if path == other_than:
                continue
            try:
                _read(path)
            except Exception:  # any damage at all disqualifies it
                logging.exception("%s is damaged, too.", path)
                continue
            return f"The last good checkpoint is {path}."
        return "There is no other checkpoint."

    def _remove_old(self, newest: int) -> None:
        steps = [step for step in self.steps() if step <= newest]
        for step in steps[: -self.keep]:
            if not (self.keep_every and step % self.keep_every == 0):
                tf.io.gfile.remove(self.path(step))

    def _remove_temporaries(self) -> None:
        """Removes what a killed process left half written."""
        for name in tf.io.gfile.listdir(self.directory):
            if name.startswith("tmp_checkpoint_"):
                tf.io.gfile.remove(os.path.join(self.directory, name))


def _write_atomically(path: str, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    temporary = os.path.join(os.path.dirname(path), "tmp_" + os.path.basename(path))
    if "://" not in path:
        with open(temporary, "wb") as file:
            _write(file, arrays, info)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_directory(os.path.dirname(path))
        return
    # Object stores want a whole file at once, and a zip writer seeks.
    with tempfile.NamedTemporaryFile() as local:
        _write(local, arrays, info)
        local.flush()
        tf.io.gfile.copy(local.name, temporary, overwrite=True)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def _sync_directory(directory: str) -> None:
    descriptor = os.open(directory or ".", os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(file, arrays: Mapping[str, np.ndarray], info: dict) -> None:
    bfloat16 = [name for name, array in arrays.items() if array.dtype == BFLOAT16]
    info = {**info, "bfloat16": bfloat16}
    encoded = np.frombuffer(json.dumps(info).encode(), np.uint8)
    with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
        for name, array in {_INFO: encoded, **arrays}.items():
            array = np.asarray(array)
            if array.dtype == BFLOAT16:
                array = array.view(np.uint16)
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read(path: str) -> tuple[dict[str, np.ndarray], dict]:
    if "://" in path:
        with tf.io.gfile.GFile(path, "rb") as file:
            source = io.BytesIO(file.read())
    else:
        source = path
    with np.load(source, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    info = json.loads(arrays.pop(_INFO).tobytes())
    for name in info.pop("bfloat16"):
        arrays[name] = arrays[name].view(BFLOAT16)
    return arrays, info


def read_variables(variables: Mapping[str, tf.Variable]) -> dict[str, np.ndarray]:
    """The values of variables, for `Checkpoints.save`."""
    return {name: variable.numpy() for name, variable in variables.items()}


def assign_variables(
    variables: Mapping[str, tf.Variable], arrays: Mapping[str, np.ndarray], path: str
) -> None:
    """Writes a checkpoint's arrays into variables: all of them, or none.

    Raises:
      CheckpointError: listing the names that are missing, extra or of another shape or dtype.
    """
    problems = [f"{name}: not in the checkpoint" for name in variables if name not in arrays]
    problems += [f"{name}: not in this run" for name in arrays if name not in variables]
    for name in variables.keys() & arrays.keys():
        expected = (tuple(variables[name].shape), variables[name].dtype.name)
        found = (arrays[name].shape, arrays[name].dtype.name)
        if found != expected:
            problems.append(f"{name}: found {found}, expected {expected}")
    if problems:
        raise CheckpointError(f"{path} doesn't fit this run:\n  " + "\n  ".join(sorted(problems)))
    for name, variable in variables.items():
        variable.assign(arrays[name])
