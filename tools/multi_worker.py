"""Starts the workers of one training, watches them, and starts all again when one is lost.

All workers on this machine (addresses on loopback are chosen):

  python tools/multi_worker.py --workers=2 -- \\
      vit-keras train --config=tpu_configs/digits.py --workdir=DIR --config.strategy=multi_worker

One worker on each of several hosts: the same command on every host, each with its own --index.
--workdir must be a directory that all of them share:

  python tools/multi_worker.py --hosts=10.0.0.1:5000,10.0.0.2:5000 --index=0 -- vit-keras train ...

With --print it only prints the line that sets TF_CONFIG, for those who start workers themselves.

A worker that dies, ends with an error, or finishes no step for --hang-seconds ends all of them;
they are started again after a pause and continue from the last checkpoint. Given up after
--max-restarts restarts in a row in which no worker came further than before. SIGTERM or Ctrl-C: all
workers save and leave (twice: all are killed).

Exit codes: 0 finished; 2 a mistake in the command or config, said in one message, not tried again;
75 told to stop and saved: the same command continues; 1 given up.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import selectors
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

USER_ERROR, SAVED, WORKER_LOST = 2, 75, 76

# What a worker's exit code means, in words.
MEANINGS = {
    USER_ERROR: "a mistake in the command or config",
    SAVED: "told to stop, and saved",
    WORKER_LOST: "another worker is gone",
    77: "it noticed that it hangs",
}

PROGRESS_FILE = "VIT_KERAS_PROGRESS_FILE"
"""The worker writes its step into the file of this name after every compiled call."""

BAR_SECONDS = 10
"""Between two states of a progress bar that are passed on."""


class Worker:
    """One process of the training, with what it says and how far it came.

    Args:
      index: its number among all workers.
      command: what to run.
      tf_config: value of the environment variable TF_CONFIG.
      directory: for the file that it writes its progress to.
    """

    def __init__(self, index: int, command: list[str], tf_config: str, directory: Path):
        self.index = index
        self.started = time.time()
        self.progress_file = directory / f"progress{index}"
        self.progress_file.unlink(missing_ok=True)
        environment = {**os.environ, "TF_CONFIG": tf_config, PROGRESS_FILE: self.progress_file}
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we tell the workers
            preexec_fn=_end_with_parent,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.step = 0  # the last that it is known to have finished
        self._rest, self._bar = b"", -BAR_SECONDS
        _say(f"Worker {index} is process {self.process.pid}.")

    @property
    def code(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        return self.process.poll()

    def look(self) -> None:
        """Sees how far it is."""
        # Not there yet, or just being written, or killed while it wrote.
        with contextlib.suppress(FileNotFoundError, ValueError):
            self.step = int(self.progress_file.read_text())

    @property
    def idle(self) -> float:
        """Seconds since it last finished something."""
        try:
            return time.time() - max(self.progress_file.stat().st_mtime, self.started)
        except FileNotFoundError:
            return time.time() - self.started

    def forward_output(self) -> bool:
        """Passes on what it wrote, each line with its number; False at the end."""
        try:
            data = self.process.stdout.read()
        except ValueError:
            return False
        if data is None:
            return True
        *lines, self._rest = (self._rest + data).split(b"\n")
        if not data and self._rest:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            self._say(line.rstrip(b"\r").rpartition(b"\r")[2])
        if b"\r" in self._rest and time.monotonic() - self._bar > BAR_SECONDS:
            self._bar = time.monotonic()
            *bars, self._rest = self._rest.split(b"\r")
            self._say(bars[-1])
        return bool(data)

    def _say(self, line: bytes) -> None:
        if line:
            text = line.decode(errors="replace")
            print(f"[worker {self.index}] {text}", flush=True)

    def signal(self, number: int) -> None:
        """Sends it a signal, if it is still there."""
        if self.code is None:
            self.process.send_signal(number)


class Launcher:
    """Runs all workers of this machine until they have finished or it must give up."""

    def __init__(self, arguments: argparse.Namespace, addresses: list[str] | None):
        self.arguments, self.addresses = arguments, addresses
        self.stops = 0
        self.workers: list[Worker] = []

    def run(self) -> int:
        """Returns the exit code."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        best, restarts = 0, 0
        with tempfile.TemporaryDirectory(prefix="multi_worker_") as directory:
            while True:
                self._start(Path(directory))
                code = self._watch()
                if code in (0, USER_ERROR) or self.stops:
                    return code
                step = max(worker.step for worker in self.workers)
                restarts = 0 if step > best else restarts + 1
                best = max(best, step)
                if restarts > self.arguments.max_restarts:
                    _say(
                        f"Given up: {restarts} starts in a row ended without coming further than "
                        f"step {best}."
                    )
                    return 1
                pause = min(self.arguments.backoff * 2**restarts, 60)
                _say(f"All workers have ended after step {step}; starting again in {pause:g} s.")
                deadline = time.monotonic() + pause
                while time.monotonic() < deadline and not self.stops:
                    time.sleep(0.1)
                if self.stops:
                    return SAVED

    def _start(self, directory: Path) -> None:
        addresses = self.addresses or _free_addresses(self.arguments.workers)
        indices = range(len(addresses)) if self.addresses is None else [self.arguments.index]
        self.workers = [
            Worker(index, self.arguments.command, tf_config(addresses, index), directory)
            for index in indices
        ]

    def _watch(self) -> int:
        """Until all have ended, for whatever reason; returns what it comes to."""
        arguments = self.arguments
        deadline = None  # when those that are left are killed
        told = 0
        with selectors.DefaultSelector() as selector:
            for worker in self.workers:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            left = set(self.workers)
            while left:
                for worker in left:
                    worker.look()
                if selector.get_map():
                    for key, _ in selector.select(timeout=0.2):
                        if not key.data.forward_output():
                            selector.unregister(key.fileobj)
                else:
                    time.sleep(0.05)
                for worker in [worker for worker in left if worker.code is not None]:
                    left.remove(worker)
                    _say(f"Worker {worker.index} has ended: {_in_words(worker.code)}.")
                    if left and worker.code != 0 and deadline is None:
                        saving = worker.code == SAVED
                        patience = arguments.save_seconds if saving else arguments.grace_seconds
                        deadline = time.monotonic() + patience
                if self.stops > told:
                    _say("Told to stop: " + ("all workers save." if told == 0 else "killing all."))
                    told = self.stops
                    for worker in left:
                        worker.signal(signal.SIGTERM if told == 1 else signal.SIGKILL)
                    deadline = deadline or time.monotonic() + arguments.save_seconds
                hanging = [worker for worker in left if worker.idle > arguments.hang_seconds]
                if hanging and (deadline is None or deadline > time.monotonic()):
                    for worker in hanging:
                        _say(
                            f"Worker {worker.index} has finished no step for "
                            f"{arguments.hang_seconds:g} s (--hang-seconds); the last was step "
                            f"{worker.step}. Ending all."
                        )
                    deadline = time.monotonic()
                if deadline is not None and time.monotonic() >= deadline:
                    for worker in left:
                        worker.signal(signal.SIGKILL)
        for worker in self.workers:  # what was written between the last look and the end
            worker.look()
            worker.forward_output()
            worker.process.stdout.close()
        codes = {worker.code for worker in self.workers}
        if USER_ERROR in codes:
            return USER_ERROR
        if codes == {0}:
            return 0
        # A worker that SIGTERM reached before it was ready to save had nothing to save.
        return SAVED if self.stops and codes <= {0, SAVED, -signal.SIGTERM} else 1

    def _stop(self, number: int, frame: object) -> None:
        self.stops += 1


def tf_config(addresses: list[str], index: int) -> str:
    """The value of TF_CONFIG for one of the workers."""
    task = {"type": "worker", "index": index}
    return json.dumps({"cluster": {"worker": addresses}, "task": task})


def _free_addresses(count: int) -> list[str]:
    """Ports on loopback that nothing listens on; held until all are found."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _end_with_parent() -> None:
    """Without us nobody would end a worker; should we be killed, it saves and leaves."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


def _in_words(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    meaning = MEANINGS.get(code)
    return f"exit code {code}" + (f" ({meaning})" if meaning else "")


def _say(text: str) -> None:
    print(f"[launcher] {text}", flush=True)


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str] | None]:
    """The arguments, and the workers' addresses if they were given."""
    own, dashes, command = argv, "", []
    if "--" in argv:
        cut = argv.index("--")
        own, dashes, command = argv[:cut], "--", argv[cut + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--workers", type=int, help="how many, all on this machine")
    where.add_argument("--hosts", help="address:port of every worker, with commas; see --index")
    parser.add_argument("--index", type=int, help="which of --hosts this one is, from 0")
    parser.add_argument("--print", action="store_true", help="print TF_CONFIG, start nothing")
    for name, default, meaning in (
        ("hang-seconds", 900, "longest time without a finished step, counted from the start on"),
        ("grace-seconds", 10, "for the others to end when one is lost; then they are killed"),
        ("save-seconds", 300, "for workers to save when told to stop"),
        ("backoff", 1, "seconds before a restart; doubles without progress, up to 60"),
    ):
        parser.add_argument(
            f"--{name}", type=float, default=default, help=f"{meaning} (%(default)s)", metavar="S"
        )
    parser.add_argument(
        "--max-restarts",
        type=int,
        default=5,
        metavar="N",
        help="in a row without any worker coming further (%(default)s)",
    )
    arguments = parser.parse_args(own)
    arguments.command = command
    addresses = None
    if arguments.hosts is not None:
        addresses = arguments.hosts.split(",")
        for address in addresses:
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                parser.error(f"--hosts has {address!r}; expected address:port.")
        if len(set(addresses)) < len(addresses):
            parser.error("--hosts names an address twice.")
        if arguments.index is None or not 0 <= arguments.index < len(addresses):
            parser.error(
                f"--index is {arguments.index}; expected 0 to {len(addresses) - 1}, this host's "
                "place in --hosts."
            )
    elif arguments.workers < 1 or arguments.index is not None or arguments.print:
        parser.error("--workers must be positive, and goes without --index and --print.")
    if not arguments.print and not (dashes and command):
        parser.error("the command to run is missing; expected it after `--`.")
    return arguments, addresses


def main(argv: list[str]) -> int:
    """Returns the exit code."""
    arguments, addresses = parse(argv)
    if arguments.print:
        print(f"export TF_CONFIG={shlex.quote(tf_config(addresses, arguments.index))}")
        return 0
    return Launcher(arguments, addresses).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
