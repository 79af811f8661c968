"""Makes a virtual environment with this checkout installed in it; standard library only."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The stacks, which are extras of setup.py, and the Pythons that their TensorFlow exists for.
STACKS = {"modern": ((3, 10), (3, 13)), "classic": ((3, 10), (3, 11))}


def python_with(extras: list[str], stack: str = "modern") -> Path:
    """The Python of `.venv-<stack>`, made and installed first where that hasn't happened.

    Args:
      extras: of `setup.py`.
      stack: "modern" (Keras 3) or "classic" (TensorFlow 2.15, Keras 2).
    """
    oldest, newest = STACKS[stack]
    if not oldest <= sys.version_info[:2] <= newest:
        sys.exit(
            f"The {stack} stack needs Python {_dotted(oldest)} to {_dotted(newest)}; this is "
            f"{_dotted(sys.version_info[:2])}. Start this script with another Python."
        )
    directory = ROOT / f".venv-{stack}"
    scripts = "Scripts" if sys.platform == "win32" else "bin"
    python = directory / scripts / ("python.exe" if sys.platform == "win32" else "python")
    wanted = sorted({*extras, stack})
    stamp = directory / "installed.txt"
    state = f"{wanted} {hashlib.sha256((ROOT / 'setup.py').read_bytes()).hexdigest()}"
    if python.exists() and stamp.exists() and stamp.read_text() == state:
        return python
    print(f"Installing vit_keras [{', '.join(wanted)}] into {directory.name}", flush=True)
    if not python.exists():
        venv.create(directory, with_pip=True)
    package = f"{ROOT}[{','.join(wanted)}]"
    install = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    subprocess.run([*install, "-e", package], check=True)
    stamp.write_text(state)
    return python


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
