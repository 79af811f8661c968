"""The dead man's limit on this machine: a process of its own that deletes a slice in time.

It belongs to no terminal, so it outlives the one it was started from, and a killed tools/tpu.py;
it does not outlive this machine's shutdown (and acts late if the machine sleeps). A file says what
it waits for; without the file, or with another guard's, it leaves.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pods.api import TpuApi
from pods.errors import PodError
from pods.naming import Target

TOOL = Path(__file__).resolve().parents[1] / "tpu.py"


def state_directory() -> Path:
    """Where logs and guards' files are: below the project's cache."""
    cache = os.environ.get("VIT_KERAS_CACHE", "~/.cache/vit_keras")
    return Path(cache).expanduser() / "pods"


def _file(target: Target) -> Path:
    return (
        state_directory() / f"{target.project.replace(':', '_')}.{target.zone}.{target.name}.json"
    )


def set_guard(target: Target, deadline: float, endpoint: str | None, poll_seconds: float) -> None:
    """Starts a guard over a slice, or moves the deadline of the one there is."""
    path = _file(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = _read(path)
    new = state is None
    if new:
        state = {"token": secrets.token_hex(8)}
    state["deadline"] = deadline
    _write(path, state)
    if new:
        command = [
            sys.executable, str(TOOL), "guard", f"--project={target.project}",
            f"--zone={target.zone}", f"--name={target.name}", f"--token={state['token']}",
            f"--poll-seconds={poll_seconds}",
        ]  # fmt: skip
        if endpoint:
            command.append(f"--api-endpoint={endpoint}")
        with path.with_suffix(".guard.log").open("a") as log:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def lift_guard(target: Target) -> None:
    """Tells the guard that the slice is gone."""
    _file(target).unlink(missing_ok=True)


def guarded_until(target: Target) -> float | None:
    """The deadline that a guard on this machine keeps, in seconds since 1970."""
    state = _read(_file(target))
    return None if state is None else state["deadline"]


def keep_guard(
    target: Target, api: TpuApi, token: str, poll_seconds: float, say: Callable[[str], None]
) -> None:
    """What the guard's process does."""
    path = _file(target)
    say(f"Guarding {target}.")
    while True:
        state = _read(path)
        if state is None or state["token"] != token:
            say("No longer needed.")
            return
        if time.time() > state["deadline"]:
            try:
                if api.get(target) is None and api.queue_state(target) is None:
                    say(f"{target} is gone.")
                    path.unlink(missing_ok=True)
                    return
                say(f"The time of {target} is up: deleting it.")
                api.delete(target)
            except PodError as error:
                say(f"Will try again: {error}")
        time.sleep(poll_seconds)


def _read(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _write(path: Path, state: dict) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(state))
    temporary.replace(path)
