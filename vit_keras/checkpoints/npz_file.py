"""Reading `.npz` files of unknown origin: headers first, arrays one at a time."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

BFLOAT16 = tf.bfloat16.as_numpy_dtype

# Trained weights hardly compress. What unpacks to this many times its size, and to more than a
# small file could, is a zip bomb, or a model of zeros that can be written without compression.
_MAX_INFLATION = 20
_SMALL = 64 << 20  # bytes


class ArraySpec(NamedTuple):
    """What an array's header says."""

    shape: tuple[int, ...]
    dtype: np.dtype


class NpzFile:
    """The arrays of an `.npz`, read when asked for; never unpickles anything.

    `specs` maps each name to its `ArraySpec`, known from the headers alone, so that a
    checkpoint is understood, and refused, before its data is read.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it isn't a zip archive, is truncated, unpacks to far more than it is, has an
        entry that isn't a plain array, or an entry whose size isn't what its header says.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"There is no checkpoint at {self.path}.")
        try:
            self._archive = zipfile.ZipFile(self.path)
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise ValueError(
                f"{self.path} is not an .npz file, or is truncated ({error}). If it was "
                "downloaded, download it again."
            ) from error
        self._data_start: dict[str, int] = {}
        try:
            self._refuse_bomb()
            self.specs: Mapping[str, ArraySpec] = dict(self._read_headers())
            self._file = open(self.path, "rb")  # noqa: SIM115 (closed with the archive)
        except BaseException:
            self._archive.close()
            raise

    def __enter__(self) -> NpzFile:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()
        self._archive.close()

    def _refuse_bomb(self) -> None:
        packed = os.path.getsize(self.path)
        unpacked = sum(entry.file_size for entry in self._archive.infolist())
        if unpacked > max(_SMALL, _MAX_INFLATION * packed):
            raise ValueError(
                f"{self.path} has {packed:,} bytes but claims to unpack to {unpacked:,}; a "
                f"checkpoint doesn't compress more than {_MAX_INFLATION}-fold. Refused."
            )

    def _read_headers(self) -> Iterator[tuple[str, ArraySpec]]:
        seen = set()
        for entry in self._archive.infolist():
            name = entry.filename.removesuffix(".npy")
            if name in seen:
                raise ValueError(f"{self.path} holds {name!r} twice.")
            seen.add(name)
            with self._reporting(name), self._archive.open(entry) as stream:
                spec, is_fortran = _read_spec(stream)
                start = stream.tell()
                expected = int(np.prod(spec.shape, dtype=object)) * spec.dtype.itemsize
                if entry.file_size - start != expected:
                    raise ValueError(
                        f"holds {entry.file_size - start} bytes of data, but shape "
                        f"{spec.shape} of {spec.dtype} needs {expected}"
                    )
                if entry.compress_type == zipfile.ZIP_STORED and not is_fortran:
                    self._data_start[name] = start
            yield name, spec

    def read(self, name: str) -> np.ndarray:
        """The whole array; bfloat16 that numpy stored as raw 2-byte void comes as bfloat16.

        Raises:
          ValueError: its data is corrupt (the archive's checksum fails).
        """
        with self._reporting(name):
            if name in self._data_start:
                return self._read_stored(name)
            with self._archive.open(self._entry_name(name)) as stream:
                array = np.lib.format.read_array(stream, allow_pickle=False)
                stream.read(1)  # the checksum is compared at the end of the entry
        return array.view(BFLOAT16) if array.dtype == np.dtype("V2") else array

    def _read_stored(self, name: str) -> np.ndarray:
        """An array that isn't compressed, straight into its place: no copy, half the time."""
        entry = self._archive.getinfo(self._entry_name(name))
        spec, length = self.specs[name], self._data_start[name]
        self._file.seek(entry.header_offset + 26)  # lengths of the name and of the extra field
        lengths = np.frombuffer(self._file.read(4), "<u2")
        self._file.seek(int(lengths.sum()), io.SEEK_CUR)
        checksum = zlib.crc32(self._file.read(length))
        array = np.empty(spec.shape, spec.dtype)
        data = memoryview(array.reshape(-1).view(np.uint8))
        if self._file.readinto(data) != data.nbytes:
            raise EOFError("the file ends before the array does")
        if zlib.crc32(data, checksum) != entry.CRC:
            raise ValueError("its checksum is wrong: the data was altered")
        return array

    def _entry_name(self, name: str) -> str:
        stored = f"{name}.npy"
        return stored if stored in self._archive.NameToInfo else name

    def _reporting(self, name: str):
        return _NamedErrors(f"{self.path}: {name!r}")


class _NamedErrors:
    """Turns whatever goes wrong while reading an entry into a ValueError that names it."""

    def __init__(self, where: str):
        self.where = where

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, traceback) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if isinstance(
            error, zipfile.BadZipFile | EOFError | OSError | ValueError | NotImplementedError
        ):
            raise ValueError(f"{self.where} can't be read: {error}") from error
        if isinstance(error, RuntimeError | zipfile.LargeZipFile) or kind.__module__ == "zlib":
            raise ValueError(f"{self.where} can't be read: {error}") from error


def _read_spec(stream) -> tuple[ArraySpec, bool]:
    """Shape and type, and whether the data is in Fortran's order."""
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
    else:
        raise ValueError(f"array format version {version} is not known")
    if dtype.hasobject:
        raise ValueError("a pickled object, which could run code when loaded; it is refused")
    dtype = np.dtype(BFLOAT16) if dtype == np.dtype("V2") else dtype
    return ArraySpec(tuple(shape), dtype), is_fortran
