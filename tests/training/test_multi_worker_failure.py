"""Workers that are told to leave, killed or stopped: all start again, and the result is exact.

Real processes under tools/multi_worker.py: two of one launcher over loopback, and four with a
launcher each, in network namespaces of their own where the system allows that.
"""

import contextlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vit_keras.training.multi_worker import HEARTBEAT_TIMEOUT_SECONDS
from vit_keras.training.saving import Checkpoints

STEPS, EVERY = 40, 5
ROOT = pathlib.Path(__file__).resolve().parents[2]
LAUNCHER = [sys.executable, str(ROOT / "tools" / "multi_worker.py")]
WORKER = str(pathlib.Path(__file__).with_name("train_worker.py"))

# Four hosts on one switch. `ip netns` keeps its list in /run, which must be ours.
NETWORK = """
mount -t tmpfs tmpfs $(readlink -f /var/run)
ip link add switch type bridge && ip link set switch up
for i in 0 1 2 3; do
  ip netns add host$i
  ip link add eth$i type veth peer name peer$i
  ip link set eth$i netns host$i && ip link set peer$i master switch up
  ip -n host$i address add 10.77.0.1$i/24 dev eth$i
  ip -n host$i link set lo up && ip -n host$i link set eth$i up
done
"""


def config(digits_folder):
    """All that has a state, but for dropout and mixing, which depend on the number of replicas."""
    return {
        "pretrained_dir": None,
        "model": {"model_name": "mu/16"},
        "dataset": str(digits_folder),
        "pp": {"crop": 32},
        "total_steps": STEPS,
        "warmup_steps": 5,
        "batch": 8,
        "batch_eval": 8,
        "accum_steps": 2,
        "optim_dtype": "float32",
        "ema_decay": 0.9,
        "strategy": "multi_worker",
        "progress_every": EVERY,
        "eval_every": 0,
        "checkpoint_every": EVERY,
        "shuffle_buffer": 16,
    }


class Run:
    """A training in `directory` by one or several launchers, whose output goes to a file."""

    def __init__(self, directory, config, launchers, prefix=()):
        directory.mkdir(exist_ok=True)
        request = directory / "request.json"
        self.workdir = directory / "workdir"
        request.write_text(json.dumps({"config": config, "workdir": str(self.workdir)}))
        command = ["--backoff=0.2", "--", sys.executable, WORKER, str(request)]
        self.checkpoints = Checkpoints(str(self.workdir / "checkpoints"))
        self.logfile = directory / "log"
        starts = [shlex.join([*before, *LAUNCHER, *own, *command]) for before, own in launchers]
        # Each launcher in the background; the exit code of the whole is the largest.
        script = "set -e\n" + "".join(prefix)
        script += "".join(f'{start} & pids="$pids $!"\n' for start in starts)
        script += "worst=0; for pid in $pids; do wait $pid || worst=$?; done; exit $worst"
        shell = ["sh", "-c", script]
        if prefix:
            shell = ["unshare", "--user", "--map-root-user", "--net", "--mount", *shell]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with open(self.logfile, "wb") as log:
            self.process = subprocess.Popen(
                shell, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    @property
    def log(self):
        return self.logfile.read_text()

    def wait_for(self, condition, seconds):
        """Seconds until the condition holds."""
        started = time.monotonic()
        while not condition():
            assert time.monotonic() - started < seconds, self.log[-4000:]
            assert self.process.poll() is None, self.log[-4000:]
            time.sleep(0.05)
        return time.monotonic() - started

    def signal_worker(self, index, number, after_step):
        """Sends a signal once the run has a checkpoint that is newer than `after_step`."""
        self.wait_for(lambda: max(self.checkpoints.steps(), default=0) > after_step, 240)
        process = re.findall(rf"Worker {index} is process (\d+)", self.log)[-1]
        os.kill(int(process), number)

    def signal_launcher(self, number, after_step):
        """Sends the only launcher a signal once there is a checkpoint newer than `after_step`."""
        self.wait_for(lambda: max(self.checkpoints.steps(), default=0) > after_step, 240)
        worker = re.findall(r"Worker \d is process (\d+)", self.log)[-1]
        status = pathlib.Path(f"/proc/{worker}/status").read_text()
        os.kill(int(re.search(r"PPid:\s*(\d+)", status).group(1)), number)

    def finish(self, seconds=300):
        code = self.process.wait(seconds)
        assert code == 0, self.log[-4000:]
        arrays, _ = self.checkpoints.restore(self.checkpoints.path(STEPS))
        return arrays

    def end(self):
        """Whatever is left of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        for process in re.findall(r"Worker \d is process (\d+)", self.log):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)


@pytest.fixture
def start(tmp_path, digits_folder):
    runs = []

    def start_run(name, *launchers, prefix=()):
        runs.append(Run(tmp_path / name, config(digits_folder), launchers, prefix))
        return runs[-1]

    yield start_run
    for run in runs:
        run.end()


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def four_hosts(free_ports):
    """How to start a launcher on each of four hosts, and what makes the hosts."""
    allowed = shutil.which("unshare") and shutil.which("ip")
    if allowed:
        test = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-ec", NETWORK]
        allowed = subprocess.run(test, capture_output=True, check=False).returncode == 0
    if allowed:
        hosts = [f"10.77.0.1{i}:5000" for i in range(4)]
        before = [["ip", "netns", "exec", f"host{i}"] for i in range(4)]
    else:
        hosts = [f"127.0.0.1:{port}" for port in free_ports(4)]
        before = [[]] * 4
    own = [[f"--hosts={','.join(hosts)}", f"--index={i}"] for i in range(4)]
    return list(zip(before, own, strict=True)), (NETWORK,) if allowed else ()


@pytest.mark.slow
def test_result_is_exact_whatever_happens_to_workers(start):
    from test_multi_worker import free_ports

    two = [], ["--workers=2"]
    whole = start("whole2", two).finish()

    # All are told to leave; then, continued, one hangs.
    run = start("disturbed2", two)
    run.signal_launcher(signal.SIGTERM, after_step=0)
    assert run.process.wait(120) == 75, run.log[-4000:]
    assert run.log.count("exit code 75 (told to stop, and saved)") == 2
    saved = max(run.checkpoints.steps())
    assert 0 < saved < STEPS
    run = start("disturbed2", two)
    run.signal_worker(1, signal.SIGSTOP, after_step=saved)
    seconds = run.wait_for(
        lambda: run.log.count("Worker 0 has ended: exit code 76 (another worker is gone)") == 1,
        HEARTBEAT_TIMEOUT_SECONDS + 20,
    )
    print(f"A stopped worker was noticed after {seconds:.1f} s.")
    assert "Another worker is gone or hangs: " in run.log
    assert_equal(run.finish(), whole)
    assert run.log.count("starting again in") == 1

    # Four hosts: undisturbed, and with one that is killed.
    launchers, prefix = four_hosts(free_ports)
    run = start("whole4", *launchers, prefix=prefix)
    whole4 = run.finish()
    for name, array in whole.items():
        np.testing.assert_allclose(whole4[name], array, rtol=1e-5, atol=1e-5, err_msg=name)
    run = start("disturbed4", *launchers, prefix=prefix)
    run.signal_worker(1, signal.SIGKILL, after_step=EVERY)
    assert_equal(run.finish(), whole4)
    assert "Worker 1 has ended: killed by SIGKILL." in run.log
    assert run.log.count("exit code 76 (another worker is gone)") >= 1
