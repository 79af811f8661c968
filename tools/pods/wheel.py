"""The project as one wheel, built once, so that every worker gets the same bytes."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pods.errors import PodError

ROOT = Path(__file__).resolve().parents[2]
_SOURCES = ("vit_keras", "tpu_configs", "setup.py", "pyproject.toml", "README.md")


@functools.cache
def built_wheel() -> tuple[str, bytes]:
    """This checkout's wheel: its file name and content. Built once, leaving nothing behind.

    So a run that goes through several slices is the same code on all of them, whatever happens to
    the checkout meanwhile.

    Raises:
      PodError: if pip fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        wheel = _build(Path(directory))
        return wheel.name, wheel.read_bytes()


def _build(directory: Path) -> Path:
    source, target = directory / "source", directory / "wheel"
    source.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--wheel-dir", str(target), str(source)]
    # With the setuptools at hand, if they are new enough, nothing is downloaded.
    for extra in (["--no-build-isolation"], []):
        done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return next(target.glob("*.whl"))
    raise PodError(f"The wheel could not be built:\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
