"""Leaving in time, with everything saved."""

from __future__ import annotations

import signal
import threading

EXIT_CODE = 75
"""Exit code of a run that was stopped, saved, and can be started again (EX_TEMPFAIL)."""


class Preempted(SystemExit):
    """The run was told to stop; it has saved. Ends the process with `EXIT_CODE`."""

    def __init__(self, step: int, checkpoint: str | None):
        super().__init__(EXIT_CODE)
        self.step = step
        self.checkpoint = checkpoint

    def __str__(self) -> str:
        return f"Stopped at step {self.step}; saved as {self.checkpoint}. Start again to continue."


WORKER_LOST_EXIT_CODE = 76
"""Exit code of a worker that ends because another one is gone; all are to be started again."""


class WorkerLost(Preempted):
    """Another worker is gone, and nothing can be done without it. Exit code 76."""

    def __init__(self, step: int, checkpoint: str | None, reason: str):
        super().__init__(step, checkpoint)
        self.code = WORKER_LOST_EXIT_CODE
        self.reason = reason

    def __str__(self) -> str:
        saved = f"The last checkpoint is {self.checkpoint}" if self.checkpoint else "None was saved"
        return (
            f"Another worker is gone or hangs: {self.reason} {saved}. "
            f"Ending with exit code {self.code}; start all workers again to continue."
        )


class StopSignal:
    """While entered, SIGTERM only sets `received`; what was set before comes back on leaving."""

    def __init__(self):
        self.received = False
        self._installed = False

    def __enter__(self) -> StopSignal:
        # Python allows signal handlers in the main thread only.
        self._installed = threading.current_thread() is threading.main_thread()
        if self._installed:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        return self

    def again(self) -> None:
        """Takes SIGTERM back from TensorFlow's coordination service, which listens to it, too."""
        if self._installed:
            signal.signal(signal.SIGTERM, self._handle)

    def __exit__(self, *_) -> None:
        if self._installed:
            signal.signal(signal.SIGTERM, self._previous)

    def _handle(self, signum, frame) -> None:
        # No message: the signal may come in the middle of writing one, and Python's streams raise
        # when they are entered twice.
        self.received = True
