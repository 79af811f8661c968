"""The training on worker 0, in a session that outlives us: start, look, stop."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pods.prepare import DIRECTORY
from pods.remote import Remote


@dataclasses.dataclass(frozen=True)
class Status:
    """One look at the session.

    Attributes:
      state: none, running, ended, or vanished (the machine was restarted).
      code: exit code, if it ended.
      log: what was written since the last look.
      offset: where to look on from.
      quiet: seconds since the last output.
      watchdog: what the slice's watchdog says of itself; None if there is none.
    """

    state: str
    code: int | None
    log: str
    offset: int
    quiet: float
    watchdog: dict | None


def start(remote: Remote, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Starts a command on worker 0."""
    command = {"argv": list(argv), "env": dict(environment)}
    _copy_json(remote, "command.json", command)
    remote.run(0, ["python3", f"{DIRECTORY}/session.py", "start"], pretend="started")


def look(remote: Remote, offset: int) -> Status:
    """The session as it is."""
    argv = ["python3", f"{DIRECTORY}/session.py", "status", str(offset)]
    answer = remote.run(0, argv, pretend=json.dumps(_PRETENDED))
    return Status(**json.loads(answer))


def stop(remote: Remote) -> None:
    """Sends SIGTERM: training saves and leaves."""
    remote.run(0, ["python3", f"{DIRECTORY}/session.py", "stop"])


def start_watchdog(remote: Remote, spec: Mapping) -> None:
    """Starts the slice's own watchdog on worker 0, if it isn't running."""
    _copy_json(remote, "watch.json", dict(spec))
    program = f"{DIRECTORY}/watchdog.py"
    remote.run(0, ["python3", program, f"{DIRECTORY}/watch.json"])


def _copy_json(remote: Remote, name: str, value: dict) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_text(json.dumps(value))
        remote.copy(0, [path], DIRECTORY)


_PRETENDED = {"state": "ended", "code": 0, "log": "", "offset": 0, "quiet": 0, "watchdog": None}
