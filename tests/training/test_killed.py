"""A training that is killed again and again ends as one that was left alone."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from vit_keras.training.saving import Checkpoints

STEPS, EVERY, KILLS = 100, 2, 20


@pytest.fixture(scope="module")
def server():
    """A process that starts trainings; see kill_server.py."""
    script = pathlib.Path(__file__).with_name("kill_server.py")
    command = [sys.executable, str(script)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    yield process
    process.stdin.close()
    process.wait(timeout=30)


def config(digits_folder):
    """All that has a state: momentum in bfloat16, averages, dropout, mixing, augmentation."""
    return {
        "pretrained_dir": None,
        "model": {"model_name": "mu/16", "dropout": 0.1},
        "dataset": str(digits_folder),
        "pp": {"crop": 32},
        "total_steps": STEPS,
        "warmup_steps": 5,
        "batch": 8,
        "batch_eval": 8,
        "accum_steps": 2,
        "ema_decay": 0.9,
        "mixup": 0.2,
        "strategy": "one_device",
        "progress_every": 2,
        "eval_every": 0,
        "checkpoint_every": EVERY,
        "shuffle_buffer": 16,
    }


def start(server, config, workdir):
    request = {"config": config, "workdir": str(workdir), "log": f"{workdir}.log"}
    server.stdin.write(json.dumps(request) + "\n")
    server.stdin.flush()
    return int(server.stdout.readline())


def finish(server):
    """The exit status of the training that was started last."""
    return int(server.stdout.readline())


def saving(folder, step):
    """Whether a checkpoint of `step` or later is being written."""
    if not folder.is_dir():
        return False
    names = [name for name in os.listdir(folder) if name.startswith("tmp_")]
    return any(int(name[-13:-4]) >= step for name in names)


@pytest.mark.slow
def test_killed_at_twenty_moments(server, digits_folder, tmp_path):
    start(server, config(digits_folder), tmp_path / "whole")
    assert finish(server) == 0, (tmp_path / "whole.log").read_text()[-3000:]
    rng = random.Random(0)
    checkpoints = Checkpoints(str(tmp_path / "killed" / "checkpoints"))
    folder = pathlib.Path(checkpoints.directory)
    targets = sorted(rng.sample(range(EVERY, STEPS - 2 * EVERY, EVERY), KILLS))
    while_saving = 0
    for number, target in enumerate(targets):
        process = start(server, config(digits_folder), tmp_path / "killed")
        deadline = time.monotonic() + 120
        if number % 5 == 0:  # wherever it is, perhaps before the first step
            time.sleep(rng.uniform(0, 2))
        elif number % 2:  # as soon as this checkpoint is being written
            while not saving(folder, target) and max(checkpoints.steps(), default=0) < target:
                assert time.monotonic() < deadline, (tmp_path / "killed.log").read_text()[-3000:]
        else:  # some time after this checkpoint was written
            while max(checkpoints.steps(), default=0) < target:
                assert time.monotonic() < deadline, (tmp_path / "killed.log").read_text()[-3000:]
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.02))
        os.kill(process, signal.SIGKILL)
        assert finish(server) == -signal.SIGKILL
        while_saving += saving(folder, 0)
        for step in checkpoints.steps():  # what is visible is whole
            checkpoints.restore(checkpoints.path(step))
    assert while_saving, "No kill hit a checkpoint that was being written."
    start(server, config(digits_folder), tmp_path / "killed")
    assert finish(server) == 0, (tmp_path / "killed.log").read_text()[-3000:]

    expected, _ = Checkpoints(str(tmp_path / "whole" / "checkpoints")).restore(
        str(tmp_path / "whole" / "checkpoints" / f"checkpoint_{STEPS:09d}.npz")
    )
    found, _ = checkpoints.restore(checkpoints.path(STEPS))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.slow
def test_sigterm_saves_and_the_next_start_goes_on(server, digits_folder, tmp_path):
    start_config = {**config(digits_folder), "checkpoint_every": 0, "eval_every": 0}
    process = start(server, start_config, tmp_path / "run")
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists():
        time.sleep(0.01)
    os.kill(process, signal.SIGTERM)
    assert finish(server) == 75
    steps = Checkpoints(str(tmp_path / "run" / "checkpoints")).steps()
    assert len(steps) == 1
    assert 0 < steps[0] < STEPS
    start(server, start_config, tmp_path / "run")
    assert finish(server) == 0
    assert json.loads((tmp_path / "run" / "result.json").read_text())["test/examples"] == 8
