"""Runs on worker 0: deletes the slice at its deadline, or when nobody needs it any more.

  python3 watchdog.py SPEC.json

Standard library only. SPEC: {"deadline": seconds since 1970, "idle_seconds", "poll_seconds",
"urls": [to DELETE, in order], "check": [to GET], "token_url"}. The token is the slice's own service
account's, from the metadata server; it is never written anywhere. What works is in watchdog.json.
"""

import json
import os
import pathlib
import sys
import time
import urllib.error
import urllib.request

import session

STATE = pathlib.Path(__file__).resolve().parent / "watchdog.json"


def main():
    """Goes into the background and watches."""
    path = pathlib.Path(sys.argv[1])
    if running() or os.fork():
        return  # the one that runs reads the new deadline
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    spec = json.loads(path.read_text())
    session.HEARTBEAT.touch()
    problems = [call(spec, "GET", url) for url in spec["check"]]
    problem = "" if "" in problems else problems[0]
    session.write(STATE, {"pid": os.getpid(), "problem": problem})
    warned = False
    while True:
        spec = json.loads(path.read_text())
        now = time.time()
        # A little before the end, training is told to save.
        if now > spec["deadline"] - spec["warning_seconds"] and not warned:
            session.stop()
            warned = True
        if now > spec["deadline"] or idle(spec):
            for url in spec["urls"]:
                call(spec, "DELETE", url)
        time.sleep(spec["poll_seconds"])


def running():
    """Whether a watchdog runs already."""
    try:
        os.kill(json.loads(STATE.read_text())["pid"], 0)
    except (OSError, ValueError):
        return False
    return True


def idle(spec):
    """Whether training has ended and nobody has asked for long."""
    quiet = time.time() - session.HEARTBEAT.stat().st_mtime
    return session.state()["state"] != "running" and quiet > spec["idle_seconds"]


def call(spec, method, url):
    """Calls the API; returns what was wrong, or ""."""
    try:
        request = urllib.request.Request(spec["token_url"], headers={"Metadata-Flavor": "Google"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            token = json.loads(answer.read())["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(url, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=30):
            return ""
    except (urllib.error.URLError, OSError, ValueError, KeyError) as error:
        return str(error)


if __name__ == "__main__":
    main()
