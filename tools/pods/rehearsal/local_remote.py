"""Workers of a rehearsal: directories of this machine, and processes in them."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from pods.errors import RemoteError
from pods.remote import Remote


class LocalRemote(Remote):
    """Runs workers' commands here, each with a home directory of its own.

    What this Python has installed stands for what a runtime image brings.

    Args:
      directory: holds a directory 0, 1, ... for each worker; without it, the machine is off.
      workers: how many.
    """

    def __init__(self, directory: Path, workers: int):
        self.workers = workers
        self._directory = directory

    def _command(self, worker: int, argv: Sequence[str]) -> list[str]:
        del worker
        return [sys.executable if argv[0] == "python3" else argv[0], *argv[1:]]

    def _process_options(self, worker: int) -> dict:
        home = self._directory / str(worker)
        image = os.pathsep.join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
        kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR", "SSL_CERT_FILE")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        return {"cwd": home, "env": {**environment, "HOME": str(home), "PYTHONPATH": image}}

    def copy(self, worker: int, files: Sequence[Path], directory: str) -> None:
        """Copies files into the worker's directory."""
        target = self._directory / str(worker) / directory
        try:
            for file in files:
                shutil.copy(file, target / Path(file).name)
        except OSError as error:
            raise RemoteError(worker, 255, "copy", str(error)) from error
