"""What can go wrong with a slice, told apart by what to do about it."""

from __future__ import annotations


class PodError(RuntimeError):
    """Something that the user must see to; the message says what."""


class NoCapacityError(PodError):
    """The zone has no free slice of this kind now; waiting helps."""


class QuotaError(PodError):
    """The project may not have this slice; waiting doesn't help."""


class ExistsError(PodError):
    """There is a slice of this name."""


class SliceLostError(PodError):
    """The slice was preempted, is in maintenance or has vanished; a new one is needed."""


class RemoteError(PodError):
    """A command on a worker failed, or the worker could not be reached.

    Attributes:
      worker: its number.
      code: the command's exit code.
      output: the end of what it wrote.
    """

    def __init__(self, worker: int, code: int, command: str, output: str):
        self.worker, self.code, self.output = worker, code, output[-3000:]
        super().__init__(
            f"worker {worker}: exit code {code} from: {command}\n{self.output}".rstrip()
        )
