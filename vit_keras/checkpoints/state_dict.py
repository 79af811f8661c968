"""PyTorch state dicts seen as checkpoints of ours.

A format (Hugging Face's, timm's) is a list of `Entry`: which canonical name stands where in a state
dict, and in which layout. Reading and writing both go through that list, so that they can't
disagree.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from vit_keras import layers
from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.load import read_finite
from vit_keras.checkpoints.naming import POSITIONS
from vit_keras.checkpoints.npz_file import ArraySpec
from vit_keras.checkpoints.positions import resize_positions
from vit_keras.files import replace_when_done
from vit_keras.models.config import ViTConfig
from vit_keras.names import unknown_name

# The layouts: how PyTorch shapes what Flax shapes otherwise. Each has a function to Flax's and one
# back; `heads` is the number of attention heads.
_Layout = Callable[[np.ndarray, int], np.ndarray]
_LAYOUTS: dict[str, tuple[_Layout, _Layout]] = {
    "same": (lambda a, heads: a, lambda a, heads: a),
    # torch.nn.Linear (outputs, inputs) and Dense (inputs, outputs)
    "dense": (lambda a, heads: a.T, lambda a, heads: a.T),
    # torch.nn.Conv2d (outputs, inputs, height, width) and (height, width, inputs, outputs)
    "conv": (lambda a, heads: a.transpose(2, 3, 1, 0), lambda a, heads: a.transpose(3, 2, 0, 1)),
    # a projection into heads: (D, D) and (D, heads, D / heads); its bias
    "into_heads": (
        lambda a, heads: a.T.reshape(a.shape[1], heads, -1),
        lambda a, heads: a.reshape(a.shape[0], -1).T,
    ),
    "heads_bias": (lambda a, heads: a.reshape(heads, -1), lambda a, heads: a.reshape(-1)),
    # and out of them: (D, D) and (heads, D / heads, D)
    "out_of_heads": (
        lambda a, heads: a.T.reshape(heads, -1, a.shape[0]),
        lambda a, heads: a.reshape(-1, a.shape[-1]).T,
    ),
    # torch.nn.Embedding (n, D) and positions (1, n, D)
    "positions": (lambda a, heads: a[None], lambda a, heads: a[0]),
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """Where a canonical parameter is in a state dict.

    Attributes:
      canonical: our name, such as "Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel".
      state: the state dict's.
      layout: one of "same", "dense", "conv", "into_heads", "heads_bias", "out_of_heads",
        "positions".
      part, parts: it is this one of so many equal parts along the first axis (query, key and value
        are often kept in one array).
      heads: attention heads, where the layout depends on them.
    """

    canonical: str
    state: str
    layout: str = "same"
    part: int = 0
    parts: int = 1
    heads: int = 1

    def to_canonical(self, array: np.ndarray) -> np.ndarray:
        """From the state dict's array to ours.

        Raises:
          ValueError: when the array's shape allows no such conversion.
        """
        if self.parts > 1:
            array = np.split(array, self.parts)[self.part]
        return _LAYOUTS[self.layout][0](array, self.heads)

    def to_state(self, array: np.ndarray) -> np.ndarray:
        """From our array to the state dict's, or to this part of it."""
        return _LAYOUTS[self.layout][1](array, self.heads)


def norm(canonical: str, state: str) -> list[Entry]:
    """A LayerNorm."""
    return [
        Entry(f"{canonical}/scale", f"{state}.weight"),
        Entry(f"{canonical}/bias", f"{state}.bias"),
    ]


def dense(canonical: str, state: str, layout: str = "dense") -> list[Entry]:
    """A Linear or, with layout "conv", a Conv2d."""
    return [
        Entry(f"{canonical}/kernel", f"{state}.weight", layout),
        Entry(f"{canonical}/bias", f"{state}.bias"),
    ]


def mlp(canonical: str, first: str, second: str) -> list[Entry]:
    """A transformer's MLP."""
    return [*dense(f"{canonical}/Dense_0", first), *dense(f"{canonical}/Dense_1", second)]


def attention(
    canonical: str, heads: int, out: str, *, fused: str = "", separate: Mapping[str, str] = {}
) -> list[Entry]:
    """Multi-head attention.

    Args:
      canonical: our name of it.
      heads: how many.
      out: state name of the output projection.
      fused: state name of query, key and value in one, up to "weight" and "bias".
      separate: state names of those that have their own, by "query", "key" and "value".
    """
    entries = [
        Entry(f"{canonical}/out/kernel", f"{out}.weight", "out_of_heads", heads=heads),
        Entry(f"{canonical}/out/bias", f"{out}.bias"),
    ]
    together = [name for name in ("query", "key", "value") if name not in separate]
    for name in ("query", "key", "value"):
        part, parts = (0, 1) if name in separate else (together.index(name), len(together))
        state = f"{separate[name]}." if name in separate else fused
        for kind, layout in (("kernel", "into_heads"), ("bias", "heads_bias")):
            suffix = "weight" if kind == "kernel" else "bias"
            entries.append(
                Entry(f"{canonical}/{name}/{kind}", state + suffix, layout, part, parts, heads)
            )
    return entries


def block(
    canonical: str,
    heads: int,
    norms: tuple[str, str],
    out: str,
    denses: tuple[str, str],
    *,
    fused: str = "",
    separate: Mapping[str, str] = {},
) -> list[Entry]:
    """A block: attention and MLP, each after a LayerNorm.

    Args:
      canonical: our name of it.
      heads: how many.
      norms: state names of the norm before attention and of that before the MLP.
      out: of attention's output projection.
      denses: of the MLP's two layers.
      fused: see `attention`.
      separate: see `attention`.
    """
    return [
        *norm(f"{canonical}/LayerNorm_0", norms[0]),
        *attention(
            f"{canonical}/MultiHeadDotProductAttention_0",
            heads,
            out,
            fused=fused,
            separate=separate,
        ),
        *norm(f"{canonical}/LayerNorm_1", norms[1]),
        *mlp(f"{canonical}/MlpBlock_0", *denses),
    ]


# Files of state dicts


class StateDict:
    """The arrays of one or more `.safetensors` files or of a `.pth`, read when asked for.

    `specs` maps names to shapes and dtypes. A `.pth` (or `.pt`, `.bin`) is read whole, by
    `torch.load(weights_only=True)`, which unpickles nothing but tensors; a state dict that it keeps
    under "state_dict" or "model" is found.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it isn't such a file, or is truncated.
      ImportError: the library that reads it isn't installed.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = os.fspath(path)
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"There is no checkpoint at {self.path}.")
        self._files: list[Any] = []
        self._arrays: dict[str, Callable[[], np.ndarray]] = {}
        self.specs: dict[str, ArraySpec] = {}
        if self.path.endswith(".safetensors"):
            self._open_safetensors(self.path)
        elif self.path.endswith(".safetensors.index.json"):
            for shard in sorted(set(read_json(self.path)["weight_map"].values())):
                self._open_safetensors(os.path.join(os.path.dirname(self.path), shard))
        elif self.path.endswith((".pth", ".pt", ".bin")):
            self._load_torch()
        else:
            raise ValueError(
                f"path is {self.path!r}; expected a .safetensors, .pth, .pt or .bin file."
            )

    def read(self, name: str) -> np.ndarray:
        """The array of this name."""
        return self._arrays[name]()

    def _open_safetensors(self, path: str) -> None:
        safetensors = _import("safetensors")
        try:
            file = safetensors.safe_open(path, framework="numpy")
            self._files.append(file)
            for name in file.keys():  # noqa: SIM118 (it is no dict)
                piece = file.get_slice(name)
                dtype = _SAFETENSORS_DTYPES.get(piece.get_dtype(), np.dtype("V1"))
                self.specs[name] = ArraySpec(tuple(piece.get_shape()), dtype)
                self._arrays[name] = lambda file=file, name=name: file.get_tensor(name)
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"{path} is not a whole .safetensors file: {error}") from error

    def _load_torch(self) -> None:
        torch = _import("torch")
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises all sorts for files that aren't its own
            raise ValueError(f"{self.path} can't be read as a state dict: {error}") from error
        for key in ("state_dict", "model"):
            if isinstance(state, dict) and isinstance(state.get(key), dict):
                state = state[key]
        if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
            raise ValueError(f"{self.path} holds no state dict, that is names and tensors.")
        for name, tensor in state.items():
            # NumPy has no bfloat16; float32 holds all its values.
            array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
            self.specs[name] = ArraySpec(tuple(array.shape), array.dtype)
            self._arrays[name] = lambda array=array: array


# bfloat16 is spelled as a float of the same size: it is only asked whether it is one.
_SAFETENSORS_DTYPES = {
    name: np.dtype(kind)
    for name, kind in (("F64", "f8"), ("F32", "f4"), ("F16", "f2"), ("BF16", "f2"), ("I64", "i8"))
}


def _import(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        extra = " or pip install 'vit-keras-tpu[torch]'" if name == "safetensors" else ""
        raise ImportError(
            f"Reading this file needs {name!r}: pip install {name}{extra}."
        ) from error


def read_json(path: str | os.PathLike) -> dict:
    """A JSON file that holds an object.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it holds something else.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no JSON object.")
    return content


# A state dict under canonical names


class CanonicalState:
    """A state dict under canonical names, with the interface of `NpzFile`.

    Attributes:
      path: of the file behind it.
      specs: canonical name to shape and dtype.
    """

    def __init__(self, state: StateDict, entries: Iterable[Entry], ignored: str = r"(?!)"):
        """Renames.

        Args:
          state: what to read from.
          entries: what its names mean.
          ignored: regular expression of whole state names that may be left over.

        Raises:
          ValueError: when names are missing or left over, or an array can't be converted.
        """
        entries = list(entries)
        known = {entry.state for entry in entries}
        problems = [f"missing    {name}" for name in sorted(known - state.specs.keys())]
        problems += [
            f"extra      {name} {state.specs[name].shape}"
            for name in sorted(state.specs.keys() - known)
            if not re.fullmatch(ignored, name)
        ]
        self.path = state.path
        self.specs: dict[str, ArraySpec] = {}
        self._state = state
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            if entry.state not in state.specs:
                continue
            shape, dtype = state.specs[entry.state]
            try:  # on a stand-in of one byte an element
                converted = entry.to_canonical(np.empty(shape, bool)).shape
            except (ValueError, IndexError) as error:
                problems.append(f"misshapen  {entry.state} {shape}: {error}")
                continue
            self.specs[entry.canonical] = ArraySpec(converted, dtype)
            self._entries[entry.canonical] = entry
        _raise_if(problems, self.path)

    def add_zeros(self, canonical: str, shape: tuple[int, ...]) -> None:
        """Adds a parameter that the file leaves out because it is zero."""
        self.specs[canonical] = ArraySpec(shape, np.dtype("f4"))

    def read(self, canonical: str) -> np.ndarray:
        """The array of a canonical name."""
        if canonical not in self._entries:
            return np.zeros(*self.specs[canonical])
        entry = self._entries[canonical]
        return entry.to_canonical(self._state.read(entry.state))

    def state_name(self, canonical: str) -> str:
        """What the state dict calls a parameter, for messages."""
        entry = self._entries.get(canonical)
        return f"{entry.state} ({canonical})" if entry else canonical


def fill(
    model: keras.Model, file: CanonicalState, stored: ViTConfig, ignore: Iterable[str] = ()
) -> keras.Model:
    """Assigns every array of `file` to its variable of `model`; returns the model.

    Args:
      model: whose weights are assigned.
      file: the state dict under canonical names.
      stored: what it holds; where the model's image size differs, positions are resized.
      ignore: canonical names that neither side needs to have.

    Raises:
      ValueError: listing the arrays that don't fit, or naming one that holds NaN.
    """
    weights = {name: w for name, w in named_weights(model).items() if name not in ignore}
    specs = {name: spec for name, spec in file.specs.items() if name not in ignore}
    [positions] = [la for la in model.layers if isinstance(la, layers.PositionEmbedding)]
    prefix, (rows, columns) = positions.prefix_tokens, stored.grid_size
    expected = {name: tuple(weight.shape) for name, weight in weights.items()}
    expected[POSITIONS] = (1, prefix + rows * columns, stored.hidden_size)
    problems = [f"missing    {name} {expected[name]}" for name in expected.keys() - specs.keys()]
    for name, (shape, dtype) in specs.items():
        if name not in expected:
            problems.append(f"extra      {file.state_name(name)} {shape}")
        elif shape != expected[name]:
            problems.append(
                f"misshapen  {file.state_name(name)}: found {shape}, expected {expected[name]}"
            )
        elif not np.issubdtype(dtype, np.floating):
            problems.append(f"mistyped   {file.state_name(name)}: expected a floating-point type")
    _raise_if(problems, file.path)
    for name, weight in weights.items():
        array = read_finite(file, name).astype(np.float32, copy=False)
        if name == POSITIONS:
            array = resize_positions(array, stored.grid_size, positions.grid_size, prefix)
        weight.assign(array)
    return model


def _raise_if(problems: list[str], path: str) -> None:
    if problems:
        shown = sorted(problems)
        listed = "\n  ".join(shown[:100] + ["..."] * (len(shown) > 100))
        raise ValueError(
            f"{path} isn't the model it should be; {len(problems)} arrays differ:\n  {listed}"
        )


def to_state(arrays: Mapping[str, np.ndarray], entries: Iterable[Entry]) -> dict[str, np.ndarray]:
    """The state dict of canonical arrays, parts joined.

    Raises:
      ValueError: when the entries don't name exactly the arrays.
    """
    parts: dict[str, dict[int, np.ndarray]] = {}
    used = set()
    for entry in entries:
        if entry.canonical not in arrays:
            raise ValueError(f"The model has no {entry.canonical!r}, which the format needs.")
        used.add(entry.canonical)
        parts.setdefault(entry.state, {})[entry.part] = entry.to_state(arrays[entry.canonical])
    if left := sorted(arrays.keys() - used):
        shown = ", ".join(left[:10]) + (", ..." if len(left) > 10 else "")
        raise ValueError(f"The format has no place for {shown}.")
    return {
        state: np.ascontiguousarray(np.concatenate([pieces[i] for i in sorted(pieces)]))
        if len(pieces) > 1
        else np.ascontiguousarray(pieces[0])
        for state, pieces in parts.items()
    }


def write_state(state: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    """Writes a state dict: `.safetensors`, or `.pth`, `.pt`, `.bin` where torch is installed.

    A file that exists is replaced only when the new one is whole.
    """
    path = os.fspath(path)
    if path.endswith(".safetensors"):
        numpy_safetensors = _import("safetensors.numpy")
        with replace_when_done(path) as temporary:
            numpy_safetensors.save_file(dict(state), temporary, metadata={"format": "pt"})
    elif path.endswith((".pth", ".pt", ".bin")):
        torch = _import("torch")
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
        with replace_when_done(path) as temporary:
            torch.save(tensors, temporary)
    else:
        raise unknown_name("suffix", os.path.splitext(path)[1], (".safetensors", ".pth"))


def class_position_in_front(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with positions for all tokens, from those of a model whose class token has none."""
    positions = arrays[POSITIONS]
    return {**arrays, POSITIONS: np.concatenate([np.zeros_like(positions[:, :1]), positions], 1)}


def blocks(num_layers: int) -> Iterator[tuple[int, str]]:
    """Number and canonical name of each block."""
    return ((index, f"Transformer/encoderblock_{index}") for index in range(num_layers))
