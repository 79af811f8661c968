"""What the person sees, and what is left of it if nobody looks."""

from __future__ import annotations

import sys
import time
from pathlib import Path


class Output:
    """Prints lines with the time, and appends them to a file; survives a terminal that is gone.

    Args:
      file: None: the terminal only.
    """

    def __init__(self, file: Path | None = None):
        self._file = file
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)

    def __call__(self, message: str) -> None:
        """Says something."""
        self.write(f"{time.strftime('%H:%M:%S')} {message}")

    def write(self, line: str) -> None:
        """Says something without the time."""
        try:
            print(line, flush=True)
        except OSError:
            sys.stdout = open("/dev/null", "w")  # noqa: SIM115
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(line + "\n")


class Meter:
    """Counts chip-hours, from the moment that a slice is ready to the one that it is gone.

    Args:
      chips: of the slice.
    """

    def __init__(self, chips: int):
        self._chips = chips
        self._seconds = 0.0
        self._since: float | None = None

    def start(self) -> None:
        """The slice costs from now on."""
        if self._since is None:
            self._since = time.time()

    def stop(self) -> None:
        """It doesn't any more."""
        if self._since is not None:
            self._seconds += time.time() - self._since
            self._since = None

    @property
    def chip_hours(self) -> float:
        """So far."""
        running = 0.0 if self._since is None else time.time() - self._since
        return (self._seconds + running) / 3600 * self._chips

    def __str__(self) -> str:
        return f"{self.chip_hours:.2f} chip-hours so far"
