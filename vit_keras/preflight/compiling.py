"""Runs `tpu_compiler.py` in a process of its own, and keeps what it found."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from absl import logging

from vit_keras.files import replace_when_done
from vit_keras.preflight.hlo_costs import read_costs
from vit_keras.slices import Slice

_SCRIPT = Path(__file__).with_name("tpu_compiler.py")
_UNITS = {"": 1, "K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
HOW_TO_INSTALL = (
    "Preflight needs jax and libtpu (no TPU): pip install 'vit-keras-tpu[preflight]', or name a "
    "Python that has them: --compiler_python=PYTHON."
)


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler said about one replica's program; bytes, and the sums of its operations.

    Attributes:
      fits: whether the program fits into the memory. If not, only the next two are set.
      memory_needed: of a program that doesn't fit.
      memory_limit: what the compiler allows; None where it didn't say.
      arguments: weights, optimizer state and the batch.
      temporaries: everything that lives only within a step.
      peak: the most that is in use at any moment.
      flops: of the matrix products and convolutions.
      bytes_accessed: read and written, as XLA counts them (one micro-batch's).
      cycles: estimated.
      all_reduce_bytes: of the gradients and metrics that are summed.
      operations: (name, estimated cycles), the costliest first.
    """

    fits: bool
    memory_needed: int | None = None
    memory_limit: int | None = None
    arguments: int = 0
    temporaries: int = 0
    peak: int = 0
    flops: float = 0.0
    bytes_accessed: float = 0.0
    cycles: int = 0
    all_reduce_bytes: int = 0
    operations: tuple[tuple[str, int], ...] = ()


class CompilerError(ValueError):
    """The TPU compiler is missing, or refused a program for another reason than its size."""


def compiler_versions(python: str | None = None) -> dict[str, str]:
    """The versions of jax, jaxlib and libtpu, and the options in LIBTPU_INIT_ARGS if there are any.

    The compiler reads them from the environment, here as on a TPU host.

    Raises:
      CompilerError: where they aren't installed; says how to install them.
    """
    code = (
        "import importlib.metadata as m, json; "
        "print(json.dumps({n: m.version(n) for n in ('jax', 'jaxlib', 'libtpu')}))"
    )
    try:
        done = subprocess.run(
            [python or sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise CompilerError(f"{python!r} can't be started: {error}. {HOW_TO_INSTALL}") from error
    if done.returncode:
        raise CompilerError(HOW_TO_INSTALL)
    versions = json.loads(done.stdout)
    if options := os.environ.get("LIBTPU_INIT_ARGS", "").strip():
        versions["LIBTPU_INIT_ARGS"] = options
    return versions


def compile_for(
    program: bytes,
    target: Slice,
    python: str | None = None,
    *,
    loop_trips: int = 1,
    options: dict[str, str] | None = None,
) -> Compiled:
    """Compiles one replica's program for a slice, in a process of its own.

    Args:
      program: a serialized `HloModuleProto`.
      target: the slice.
      python: a Python with jax and libtpu; None for this one.
      loop_trips: micro-batches that the program loops over.
      options: of XLA, by name, such as `xla_tpu_scoped_vmem_limit_kib`.

    Raises:
      CompilerError: where the compiler fails, unless it is for lack of memory on the chip.
    """
    compiler_versions(python)
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        job = {
            "program": str(folder / "program.pb"),
            "topology": target.topology,
            "topology_options": target.topology_options,
            "num_replicas": target.replicas,
            "loop_trips": loop_trips,
            "options": options or {},
            "hlo": str(folder / "optimised.txt"),
            "result": str(folder / "result.json"),
        }
        (folder / "program.pb").write_bytes(program)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [python or sys.executable, str(_SCRIPT), str(folder / "job.json")],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return _too_large(done.stderr)
        found = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        costs = read_costs(
            (folder / "optimised.txt").read_text(encoding="utf-8"), loop_trips=loop_trips
        )
    return Compiled(
        fits=True,
        arguments=found["arguments"],
        temporaries=found["temporaries"],
        # Results are written over the arguments that they replace; what isn't, counts.
        peak=found["peak"]
        or found["arguments"] + found["temporaries"] + found["outputs"] - found["aliases"],
        flops=found["flops"] or 0.0,
        bytes_accessed=found["bytes_accessed"] or 0.0,
        cycles=costs.cycles,
        all_reduce_bytes=costs.all_reduce_bytes,
        operations=tuple(costs.operations),
    )


def _too_large(errors: str) -> Compiled:
    """What a "doesn't fit" of the compiler says; raises for any other failure."""
    number = r"([\d.]+)([KMGT]?)"
    found = re.search(rf"Used {number}i?B? of {number}i?B? hbm", errors) or re.search(
        rf"\({number}\) exceeds available HBM \({number}\)", errors
    )
    if not found:
        lines = [line for line in errors.strip().splitlines() if line.strip()]
        raise CompilerError("The TPU compiler failed: " + "\n".join(lines[-8:]))
    needed, limit = (int(float(found[i]) * _UNITS[found[i + 1]]) for i in (1, 3))
    return Compiled(fits=False, memory_needed=needed, memory_limit=limit)


class Cache:
    """Results by a hash of what determines them.

    Args:
      directory: None for `$VIT_KERAS_CACHE/preflight`, or ~/.cache/vit_keras/preflight.
      enabled: False to look nothing up; results are kept all the same.
    """

    def __init__(self, directory: str | None = None, enabled: bool = True):
        base = os.environ.get("VIT_KERAS_CACHE") or os.path.expanduser("~/.cache/vit_keras")
        self.directory = Path(directory or os.path.join(base, "preflight"))
        self.enabled = enabled

    @staticmethod
    def key(facts: dict) -> str:
        """The hash of a dict that JSON can hold."""
        text = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> dict | None:
        """What was stored under `key`, if anything."""
        path = self.directory / f"{key}.json"
        if not self.enabled or not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError:  # a disk that was full
            return None

    def get_or_make(self, facts: dict, make: Callable[[], dict]) -> dict:
        """What is stored for `facts` (see `key`), or else what `make` returns, which is stored."""
        key = self.key(facts)
        found = self.get(key)
        if found is not None:
            logging.info("Found in the cache: %s.", key)
            return found
        made = make()
        self.put(key, made)
        return made

    def put(self, key: str, value: dict) -> None:
        """Stores `value` under `key`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with replace_when_done(str(self.directory / f"{key}.json")) as path:
            Path(path).write_text(json.dumps(value), encoding="utf-8")


def source_hash() -> str:
    """A hash of this package's own code, which makes the programs."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for folder in ("layers", "models", "training", "preflight", "data"):
        for path in sorted((root / folder).rglob("*.py")):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()
