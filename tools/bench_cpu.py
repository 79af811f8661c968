"""Our ViT beside others' on this machine's CPU, as ratios measured in one run.

  python tools/bench_cpu.py [--peers keras_hub,transformers] [--peer_python PEER=PYTHON]

At 224 px with 1000 classes: inference of B/16 at batch 8 by `predict_on_batch`, and a training step
of S/16 at batch 16 by `train_on_batch`, SGD with momentum and clip by global norm, each in float32
and in mixed bfloat16. Ours is also trained by our own training step, which leaves out of the last
block what the loss doesn't depend on. Architectures are the same (the numbers of parameters are
compared), initial weights are each package's own. keras_hub is keras-hub from PyPI on TensorFlow,
with its exact gelu; transformers is PyTorch's ViT (inference only, attention by PyTorch's own
kernel, weights of bfloat16 instead of mixed precision).

Every contender is a process of its own (tools/cpu_contenders.py); they take turns, round by round
in another order, so that what else the machine does hits them alike. Printed are images/s (median)
and the medians of the rounds' ratios "time of the peer / our time": above 1 we are faster. CPU time
is less disturbed than wall time by other programs. Nothing is compiled by XLA unless `--jit`, then
everything is.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import tqdm

_CONTENDERS = Path(__file__).with_name("cpu_contenders.py")
PEERS = ("keras_hub", "transformers")


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is timed.

    Attributes:
      task: "inference" or "train".
      variant: of ViT.
      batch: images.
      dtype: of Keras.
      goal: the least ratio to keras_hub that we want.
    """

    task: str
    variant: str
    batch: int
    dtype: str
    goal: float

    @property
    def name(self) -> str:
        """What `--only` takes."""
        return f"{self.task}:{self.dtype}"


WORKLOADS = (
    Workload("inference", "B/16", 8, "float32", 1.0),
    Workload("inference", "B/16", 8, "mixed_bfloat16", 1.0),
    Workload("train", "S/16", 16, "float32", 1.1),
    Workload("train", "S/16", 16, "mixed_bfloat16", 1.1),
)


class Contender:
    """A process that makes a call whenever asked.

    Args:
      name: a function of cpu_contenders.py.
      workload: what it is to do.
      python: an interpreter that has its package.
      jit: whether XLA compiles it.

    Raises:
      ValueError: where the process doesn't start; has its last words.
    """

    def __init__(self, name: str, workload: Workload, python: str, jit: bool = False):
        facts = (workload.task, workload.variant, workload.dtype, str(workload.batch))
        self.name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115, see stop()
        self._process = subprocess.Popen(
            [python, str(_CONTENDERS), name, *facts, "jit" if jit else "plain"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        try:
            about = json.loads(self._process.stdout.readline())
        except ValueError:
            self.stop()
            raise ValueError(f"{name} failed under {python}:\n{self._last_words}") from None
        self.version, self.parameters = about["version"], about["parameters"]
        self.times: list[tuple[float, float]] = []

    def take_turn(self) -> None:
        """Notes the seconds and CPU seconds of one call."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.times.append(tuple(json.loads(self._process.stdout.readline())))

    def stop(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._errors.seek(0)
        self._last_words = "\n".join(self._errors.read().strip().splitlines()[-5:])
        self._errors.close()


def measure(
    workload: Workload,
    contenders: dict[str, str],
    rounds: int,
    jit: bool = False,
) -> list[Contender]:
    """Lets the contenders take turns.

    Args:
      workload: what they do.
      contenders: name -> interpreter.
      rounds: how many turns each takes.
      jit: whether XLA compiles them.

    Raises:
      ValueError: where one fails, or has another number of parameters than the first.
    """
    running: list[Contender] = []
    try:
        for name, python in contenders.items():
            running.append(Contender(name, workload, python, jit))
            if running[-1].parameters != running[0].parameters:
                raise ValueError(
                    f"{name} has {running[-1].parameters} parameters; expected those of "
                    f"{running[0].name}, {running[0].parameters}."
                )
        for number in tqdm.trange(rounds, desc=workload.name, leave=False):
            first = number % len(running)
            order = running[first:] + running[:first]
            for contender in order if number % 2 == 0 else order[::-1]:
                contender.take_turn()
    finally:
        for contender in running:
            contender.stop()
    return running


def format_table(workload: Workload, measured: list[Contender]) -> str:
    """Markdown lines; the ratios are those of ours (each of ours) to every peer."""
    lines = []
    ours = [contender for contender in measured if contender.name not in PEERS]
    what = f"{workload.task}, {workload.variant}, batch {workload.batch}, {workload.dtype}"
    for contender in measured:
        rate = workload.batch / statistics.median(wall for wall, _ in contender.times)
        name = f"{contender.name} {contender.version}"
        if contender in ours:
            lines.append(f"| {what} | **{name}** | {rate:.2f} | | | |")
            continue
        for own in ours:
            wall, cpu = (_ratio(contender, own, clock) for clock in (0, 1))
            goal = f"{workload.goal:g}" if contender.name == "keras_hub" else ""
            lines.append(f"| | {name} / {own.name} | {rate:.2f} | {wall} | {cpu} | {goal} |")
    return "\n".join(lines)


def _ratio(peer: Contender, own: Contender, clock: int) -> str:
    """Median of the rounds' ratios, and their middle half."""
    ratios = [
        theirs[clock] / ours[clock] for theirs, ours in zip(peer.times, own.times, strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.2f} to {high:.2f})"


def main() -> None:
    """Prints the table, a workload as soon as it is measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [workload.name for workload in WORKLOADS]
    parser.add_argument("--only", choices=names, help="one workload")
    parser.add_argument("--peers", default="keras_hub", help=f"of {','.join(PEERS)}")
    parser.add_argument(
        "--peer_python",
        action="append",
        default=[],
        metavar="PEER=PYTHON",
        help="interpreter that has a peer's package (default: this one)",
    )
    parser.add_argument("--rounds", type=int, default=11, help="turns each takes; at least 2")
    parser.add_argument("--jit", action="store_true", help="compile everything by XLA")
    arguments = parser.parse_args()
    pythons = dict(pair.partition("=")[::2] for pair in arguments.peer_python)
    peers = [peer for peer in arguments.peers.split(",") if peer]
    if unknown := [peer for peer in (*peers, *pythons) if peer not in PEERS]:
        parser.error(f"{unknown[0]!r} is no peer; expected some of {', '.join(PEERS)}.")
    if arguments.rounds < 2:
        parser.error(f"--rounds is {arguments.rounds}; expected at least 2.")

    print(f"{os.cpu_count()} CPUs, {'all' if arguments.jit else 'nothing'} compiled by XLA\n")
    print("| workload | contender | images/s | time / our time | CPU time / ours | goal |")
    print("| --- | --- | --- | --- | --- | --- |")
    for workload in WORKLOADS:
        if arguments.only not in (None, workload.name):
            continue
        contenders = {"vit_keras": sys.executable}
        if workload.task == "train":
            contenders["vit_keras_engine"] = sys.executable
        for peer in peers:
            if peer == "keras_hub" or (workload.task == "inference" and not arguments.jit):
                contenders[peer] = pythons.get(peer, sys.executable)
        measured = measure(workload, contenders, arguments.rounds, arguments.jit)
        print(format_table(workload, measured), flush=True)


if __name__ == "__main__":
    main()
