"""tools/multi_worker.py with workers that do one thing each, and the watchdog inside a worker."""

import json
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from vit_keras.training import preemption, watchdog

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "multi_worker.py"

# What every worker begins with: its index, how many starts there were, and what it reports to.
WORKER = """
import json, os, pathlib, signal, sys, time
index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
count = pathlib.Path(sys.argv[1]) / f"starts{index}"
start = int(count.read_text()) + 1 if count.exists() else 1
count.write_text(str(start))
def step(number):
    pathlib.Path(os.environ["VIT_KERAS_PROGRESS_FILE"]).write_text(f"{number}\\n")
"""


def launch(directory, script, *options):
    """A launcher whose workers run `script`."""
    worker = [sys.executable, "-u", "-c", WORKER + script, str(directory)]
    return subprocess.Popen(
        [sys.executable, str(TOOL), "--backoff=0.05", *options, "--", *worker],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(directory, script, *options):
    process = launch(directory, script, *options)
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def test_starts_again_after_each_kind_of_end(tmp_path):
    script = """
step(start)
if start == 1 and index == 1: os.kill(os.getpid(), signal.SIGKILL)
if start == 1: sys.exit(76)
if start == 2: sys.exit(75)
if start == 3 and index == 0: sys.exit(1)
print("bar 1\\rbar 2\\rdone")
"""
    code, output = run(tmp_path, script, "--workers=2", "--max-restarts=0")
    assert code == 0, output
    assert output.count("starting again in") == 3
    assert "Worker 1 has ended: killed by SIGKILL." in output
    assert "Worker 0 has ended: exit code 76 (another worker is gone)." in output
    assert "exit code 75 (told to stop, and saved)" in output
    assert "[worker 0] done\n" in output
    assert "bar 1" not in output


def test_gives_up_without_progress(tmp_path):
    script = "step(min(start, 2)); sys.exit(1)"
    code, output = run(tmp_path, script, "--workers=2", "--max-restarts=1")
    assert code == 1
    # To step 1, to step 2, and two starts that came no further.
    assert (tmp_path / "starts0").read_text() == "4"
    assert "Given up: 2 starts in a row ended without coming further than step 2." in output


def test_killed_while_it_writes_its_progress(tmp_path):
    script = """
step(5)
time.sleep(1.0)
open(os.environ["VIT_KERAS_PROGRESS_FILE"], "w").close()
sys.exit(1)
"""
    code, output = run(tmp_path, script, "--workers=1", "--max-restarts=0")
    assert code == 1
    assert "All workers have ended after step 5; starting again" in output
    assert "1 starts in a row ended without coming further than step 5." in output


def test_mistake_is_not_tried_again(tmp_path):
    code, _ = run(tmp_path, "sys.exit(2)", "--workers=2")
    assert code == 2
    assert (tmp_path / "starts0").read_text() == "1"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["signal.pause()", "os.kill(os.getpid(), signal.SIGSTOP)"])
def test_hanging_worker_ends_all(tmp_path, how):
    script = f"""
signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready = count.with_name("ready")  # in the first start worker 0 comes to step 9, however slow it is
while index == 1 and not ready.exists(): step(3); time.sleep(0.02)
step(3)
if index == 1: {how}
while True: step(9); ready.touch(); time.sleep(0.02)
"""
    code, output = run(tmp_path, script, "--workers=2", "--hang-seconds=3", "--max-restarts=0")
    assert code == 1
    assert "Worker 1 has finished no step for 3 s (--hang-seconds); the last was step 3." in output
    assert "Worker 0 has finished no step" not in output
    assert output.count("killed by SIGKILL") == 4  # it came further once, so there was a restart


def test_rest_is_killed_after_the_grace(tmp_path):
    script = "if index == 1: sys.exit(1)\nsignal.pause()"
    code, output = run(tmp_path, script, "--workers=2", "--grace-seconds=0.3", "--max-restarts=0")
    assert code == 1
    assert "Worker 0 has ended: killed by SIGKILL." in output


def test_sigterm_is_passed_on(tmp_path):
    script = """
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
step(1)
signal.pause()
"""
    process = launch(tmp_path, script, "--workers=2")
    while not all((tmp_path / f"starts{i}").exists() for i in range(2)):
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 75, output
    assert "Told to stop: all workers save." in output


def test_workers_end_with_a_killed_launcher(tmp_path):
    process = launch(tmp_path, "signal.pause()", "--workers=1")
    worker = int(re.search(r"is process (\d+)", process.stdout.readline()).group(1))
    process.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        state = pathlib.Path(f"/proc/{worker}/stat")
        if not state.exists() or ") Z " in state.read_text():
            return
        time.sleep(0.02)
    pytest.fail("The worker outlived its launcher.")


def test_tf_config_of_one_host(tmp_path):
    hosts = "--hosts=10.0.0.1:5000,10.0.0.2:5000"
    command = [sys.executable, str(TOOL), hosts, "--index=1", "--print"]
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    export, assignment = shlex.split(line)
    assert export == "export"
    assert json.loads(assignment.removeprefix("TF_CONFIG=")) == {
        "cluster": {"worker": ["10.0.0.1:5000", "10.0.0.2:5000"]},
        "task": {"type": "worker", "index": 1},
    }
    # And only this one is started.
    code, output = run(tmp_path, "print(index)", hosts, "--index=1")
    assert code == 0
    assert "[worker 1] 1\n" in output
    assert "[worker 0]" not in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--hosts=10.0.0.1:5000"], "--index is None; expected 0 to 0"),
        (["--hosts=10.0.0.1", "--index=0"], "--hosts has '10.0.0.1'; expected address:port."),
        (["--hosts=a:1,a:1", "--index=0"], "--hosts names an address twice."),
        (["--workers=0"], "--workers must be positive"),
        (["--workers=2"], "the command to run is missing"),
    ],
)
def test_mistakes_in_the_command(options, message):
    process = subprocess.run(
        [sys.executable, str(TOOL), *options], capture_output=True, text=True, check=False
    )
    assert process.returncode == 2
    assert message in process.stderr


def test_exit_codes_are_those_of_the_package():
    text = TOOL.read_text()
    codes = (preemption.EXIT_CODE, preemption.WORKER_LOST_EXIT_CODE)
    assert "USER_ERROR, SAVED, WORKER_LOST = 2, {}, {}".format(*codes) in text
    assert f"{watchdog.HANG_EXIT_CODE}: " in text
    assert f'PROGRESS_FILE = "{watchdog.PROGRESS_FILE}"' in text


def test_watchdog_ends_a_process_that_hangs(tmp_path):
    script = f"""
import importlib.util, os, sys, time
spec = importlib.util.spec_from_file_location("watchdog", {watchdog.__file__!r})
watchdog = importlib.util.module_from_spec(spec)
spec.loader.exec_module(watchdog)
def stuck():
    time.sleep(100)
with watchdog.Watchdog(0.5) as dog:
    time.sleep(1)  # before the first beat nothing is expected: the start takes as long as it takes
    for step in range(5):
        dog.beat(step)
        time.sleep(0.2)
    stuck()
"""
    environment = {watchdog.PROGRESS_FILE: str(tmp_path / "progress")}
    process = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert process.returncode == watchdog.HANG_EXIT_CODE, process.stderr
    assert "Nothing was finished for 0.5 seconds (config.hang_seconds) after step 4" in (
        process.stderr
    )
    assert "in stuck" in process.stderr
    assert (tmp_path / "progress").read_text() == "4\n"


def test_watchdog_refuses_nonsense():
    with pytest.raises(ValueError, match=r"config\.hang_seconds is 0; expected a positive number"):
        watchdog.Watchdog(0)
