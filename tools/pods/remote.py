"""Reaching a slice's machines: run a command on worker i, copy files there, stream its output.

Two ways lead to a worker. `gcloud compute tpus tpu-vm ssh` is the default: it makes and distributes
SSH keys, knows OS Login, host keys and Identity-Aware Proxy, and whoever has logged in for the API
has it installed. Plain `ssh` does without gcloud: `create` puts your public key into the machines'
metadata. Both end in one shell on the worker, which gets one string, quoted by `shlex.join`; on
this side there are only argument lists.

Commands run in the home directory, and paths are relative to it.
"""

from __future__ import annotations

import abc
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pods.errors import RemoteError
from pods.naming import Target

_UNREACHED = 255  # ssh's own exit code


class Remote(abc.ABC):
    """The machines of one slice.

    Attributes:
      workers: how many there are.
    """

    workers: int

    @abc.abstractmethod
    def _command(self, worker: int, argv: Sequence[str]) -> list[str]:
        """The local command that runs `argv` on a worker."""

    @abc.abstractmethod
    def copy(self, worker: int, files: Sequence[Path], directory: str) -> None:
        """Copies files into an existing directory of a worker.

        Raises:
          RemoteError: if that fails.
        """

    def run(
        self, worker: int, argv: Sequence[str], *, timeout: float = 120, pretend: str = ""
    ) -> str:
        """Runs a command on a worker and returns what it printed.

        Args:
          worker: its number.
          argv: the command, as a list.
          timeout: seconds after which it is taken for failed.
          pretend: what a dry run takes for the answer.

        Raises:
          RemoteError: if the command fails, or the worker can't be reached.
        """
        del pretend
        return self._finish(worker, self._command(worker, argv), argv, timeout)

    def stream(self, worker: int, argv: Sequence[str]) -> Iterator[str]:
        """Lines that a command on a worker prints, until it ends."""
        command = self._command(worker, argv)
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            **self._process_options(worker),
        )
        try:
            for line in process.stdout:
                yield line.rstrip("\n")
        finally:
            process.terminate()
            process.wait()

    def wait_until_reachable(self, seconds: float, sleep: Callable[[float], None]) -> None:
        """Waits until every worker runs a command: SSH comes up some time after READY.

        Raises:
          RemoteError: the last one, after `seconds`.
        """
        deadline = time.monotonic() + seconds
        for worker in range(self.workers):
            while True:
                try:
                    self.run(worker, ["true"], timeout=60)
                    break
                except RemoteError:
                    if time.monotonic() > deadline:
                        raise
                    sleep(10)

    def _process_options(self, worker: int) -> dict:
        del worker
        return {}

    def _finish(self, worker: int, command: list[str], argv: Sequence[str], timeout: float) -> str:
        shown = shlex.join(argv)
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                check=False,
                **self._process_options(worker),
            )
        except subprocess.TimeoutExpired as error:
            raise RemoteError(worker, 124, shown, f"no answer in {timeout:.0f} s") from error
        except OSError as error:
            raise RemoteError(worker, _UNREACHED, shown, str(error)) from error
        if done.returncode:
            raise RemoteError(worker, done.returncode, shown, done.stdout + done.stderr)
        return done.stdout


class GcloudRemote(Remote):
    """Workers through `gcloud compute tpus tpu-vm ssh` and `scp`.

    Args:
      target: the slice.
      workers: how many machines it has.
      user: login name; None: gcloud's choice.
      internal_ip: use the machines' private addresses (from a machine in the same network).
    """

    def __init__(
        self, target: Target, workers: int, *, user: str | None = None, internal_ip: bool = False
    ):
        self.workers = workers
        self._target = target
        self._host = f"{user}@{target.name}" if user else target.name
        self._internal = ["--internal-ip"] if internal_ip else []

    def _gcloud(self, action: str, worker: int, *arguments: str) -> list[str]:
        where = [f"--project={self._target.project}", f"--zone={self._target.zone}"]
        options = [*where, f"--worker={worker}", "--quiet", *self._internal]
        return ["gcloud", "compute", "tpus", "tpu-vm", action, *arguments, *options]

    def _command(self, worker: int, argv: Sequence[str]) -> list[str]:
        return [*self._gcloud("ssh", worker, self._host), f"--command={shlex.join(argv)}"]

    def copy(self, worker: int, files: Sequence[Path], directory: str) -> None:
        """Copies with `gcloud compute tpus tpu-vm scp`."""
        sources = [str(Path(file).resolve()) for file in files]
        command = self._gcloud("scp", worker, *sources, f"{self._host}:{directory}/")
        self._finish(worker, command, command, 600)


class SshRemote(Remote):
    """Workers through plain `ssh` and `scp`.

    Args:
      addresses: of the machines, in order.
      user: login name there.
      known_hosts: file for the machines' keys; those of a new slice are new, so it is not yours.
      identity: private key file; None: ssh's choice.
    """

    def __init__(
        self, addresses: Sequence[str], user: str, known_hosts: Path, identity: str | None = None
    ):
        self.workers = len(addresses)
        self._hosts = [f"{user}@{address}" for address in addresses]
        self._options = [
            "-o", "BatchMode=yes",
            "-o", "ConnectTimeout=20",
            "-o", "ServerAliveInterval=20",
            "-o", "StrictHostKeyChecking=accept-new",
            "-o", f"UserKnownHostsFile={known_hosts}",
        ]  # fmt: skip
        if identity:
            self._options += ["-i", identity, "-o", "IdentitiesOnly=yes"]

    def _command(self, worker: int, argv: Sequence[str]) -> list[str]:
        return ["ssh", *self._options, self._hosts[worker], shlex.join(argv)]

    def copy(self, worker: int, files: Sequence[Path], directory: str) -> None:
        """Copies with `scp`."""
        sources = [str(Path(file).resolve()) for file in files]
        command = ["scp", "-q", *self._options, *sources, f"{self._hosts[worker]}:{directory}/"]
        self._finish(worker, command, command, 600)


class PrintingRemote(Remote):
    """A dry run's workers: prints the local command behind every step, runs none.

    Args:
      real: the remote whose commands are shown.
      say: where to.
    """

    def __init__(self, real: Remote, say: Callable[[str], None]):
        self.workers = real.workers
        self._real = real
        self._say = say

    def _command(self, worker: int, argv: Sequence[str]) -> list[str]:
        return self._real._command(worker, argv)

    def run(self, worker: int, argv: Sequence[str], *, timeout: float = 120, pretend: str = ""):
        """Prints the command and pretends."""
        del timeout
        self._say(f"[dry run] worker {worker}: {shlex.join(self._command(worker, argv))}")
        return pretend

    def copy(self, worker: int, files: Sequence[Path], directory: str) -> None:
        """Prints what would be copied."""
        for file in map(Path, files):
            content = f": {file.read_text()}" if file.suffix == ".json" else ""
            self._say(f"[dry run] worker {worker}: copy {file.name} to {directory}/{content}")

    def stream(self, worker: int, argv: Sequence[str]) -> Iterator[str]:
        """Prints the command."""
        self.run(worker, argv)
        return iter(())


def public_key(identity: str | None) -> str:
    """The public key that goes into the machines' metadata for plain ssh.

    Raises:
      ValueError: if there is none.
    """
    folder = Path("~/.ssh").expanduser()
    names = [f"{identity}.pub"] if identity else ["id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub"]
    for name in names:
        path = Path(os.path.expanduser(name)) if identity else folder / name
        if path.is_file():
            return path.read_text().strip()
    raise ValueError(
        f"--via is 'ssh', but there is no public key ({', '.join(names)} in {folder}); make one "
        "with ssh-keygen, or name yours with --identity."
    )
