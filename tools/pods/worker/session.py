"""Runs on worker 0: one command in a session that outlives the connection that started it.

  python3 session.py start|status OFFSET|stop

Standard library only. `start` runs what command.json says ({"argv", "env"}), in a session of its
own, writing to train.log; session.json says who runs, exit.json how it ended.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
LOG, SESSION, EXIT = HERE / "train.log", HERE / "session.json", HERE / "exit.json"
HEARTBEAT = HERE / "heartbeat"
MOST = 256 * 1024


def start():
    """Starts the command, unless one runs."""
    if state()["state"] == "running":
        sys.exit("A session is running already.")
    command = json.loads((HERE / "command.json").read_text())
    EXIT.unlink(missing_ok=True)
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        print(os.read(reader, 100).decode())  # not before the session is there to be asked about
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    try:
        child = spawn(command)
    except OSError as error:
        with LOG.open("a") as log:
            log.write(f"{error}\n")
        write(EXIT, {"code": 127, "ended": time.time()})
        os._exit(1)
    write(SESSION, {"supervisor": os.getpid(), "child": child.pid, "started": time.time()})
    os.write(writer, b"started")
    os.close(writer)
    code = child.wait()
    write(EXIT, {"code": code, "ended": time.time()})
    os._exit(0)


def spawn(command):
    """The command's process."""
    with LOG.open("ab") as log:
        return subprocess.Popen(
            command["argv"],
            env={**os.environ, **command["env"]},
            cwd=HERE,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def state():
    """{"state": "none" | "running" | "ended" | "vanished", "code": ...}."""
    if EXIT.exists():
        return {"state": "ended", "code": json.loads(EXIT.read_text())["code"]}
    if not SESSION.exists():
        return {"state": "none", "code": None}
    pid = json.loads(SESSION.read_text())["supervisor"]
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return {"state": "vanished", "code": None}
    return {"state": "running", "code": None}


def status(offset):
    """The state, and what the log has from a byte on (-1: nothing); tells the watchdog of us."""
    HEARTBEAT.touch()
    answer = state()
    answer["log"], answer["offset"], answer["quiet"] = "", offset, 0
    if LOG.exists():
        if offset >= 0:
            with LOG.open("rb") as log:
                log.seek(offset)
                data = log.read(MOST)
            answer["log"] = data.decode(errors="replace")
            answer["offset"] = offset + len(data)
        answer["quiet"] = max(0.0, time.time() - LOG.stat().st_mtime)
    watchdog = HERE / "watchdog.json"
    answer["watchdog"] = json.loads(watchdog.read_text()) if watchdog.exists() else None
    print(json.dumps(answer))


def stop():
    """Tells the command to end."""
    if state()["state"] == "running":
        os.kill(json.loads(SESSION.read_text())["child"], signal.SIGTERM)


def write(path, value):
    """Writes JSON under a temporary name, then renames."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


if __name__ == "__main__":
    if sys.argv[1] == "start":
        start()
    elif sys.argv[1] == "status":
        status(int(sys.argv[2]))
    elif sys.argv[1] == "stop":
        stop()
    else:
        sys.exit(__doc__)
