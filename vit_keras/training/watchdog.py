"""Noticing that a process has stopped working: by itself, and by whoever started it."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time

from absl import logging

HANG_EXIT_CODE = 77
"""Exit code of a process that ended itself because it had stopped making progress."""

PROGRESS_FILE = "VIT_KERAS_PROGRESS_FILE"
"""Environment variable: a file to write the step into after every compiled call."""


class Watchdog:
    """While entered, ends the process when no `beat` came for `seconds`, after the first one.

    A collective that waits for another worker can't be interrupted, so the process is ended as it
    stands, with the stacks of all its threads on stderr; what was saved stays.

    Args:
      seconds: must exceed the longest time between two beats (a compiled call, an evaluation, a
        save); None: only write the progress file.

    Raises:
      ValueError: for anything but None or a positive number.
    """

    def __init__(self, seconds: float | None = None):
        if seconds is not None and not seconds > 0:
            raise ValueError(
                f"config.hang_seconds is {seconds!r}; expected a positive number or None."
            )
        self.seconds = seconds
        self._file = os.environ.get(PROGRESS_FILE)
        self._step, self._last = 0, None
        self._ended = threading.Event()

    def __enter__(self) -> Watchdog:
        self._ended.clear()
        if self.seconds is not None:
            threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._last = None

    def beat(self, step: int) -> None:
        """Says that the work goes on, and stands at `step`."""
        self._step, self._last = step, time.monotonic()
        if self._file:
            with open(self._file, "w") as file:
                file.write(f"{step}\n")

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self.seconds / 4)):
            if self._last is not None and time.monotonic() - self._last > self.seconds:
                break
        else:
            return
        logging.error(
            "Nothing was finished for %g seconds (config.hang_seconds) after step %d: a worker or "
            "the input hangs. Ending with exit code %d; start all workers again to continue from "
            "the last checkpoint. The stacks of all threads:",
            self.seconds,
            self._step,
            HANG_EXIT_CODE,
        )
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(HANG_EXIT_CODE)
