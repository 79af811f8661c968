"""The whole `tpu.py train` on one machine, through preemptions, and the weights compared."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pods.errors import PodError
from pods.rehearsal.fake_cloud import FakeCloud, Plan

ROOT = Path(__file__).resolve().parents[3]
NAME = ("--project=my-project-123", "--zone=us-central2-b", "--name=rehearsal")
SHRUNK = (
    "--config.total_steps=120",
    "--config.warmup_steps=10",
    "--config.batch=16",
    "--config.checkpoint_every=10",
    "--config.progress_every=10",
    "--config.eval_every=0",
    "--config.shuffle_buffer=64",
    "--config.strategy=one_device",
)


@dataclasses.dataclass(frozen=True)
class Rehearsed:
    """What came of it.

    Attributes:
      output: of tpu.py.
      slices: how many were granted.
      taken_at: the newest checkpoint's step when each was taken away.
      left: slices and requests that exist afterwards.
      equal: whether all weights are, bit for bit, those of the undisturbed run.
      arrays: how many were compared.
    """

    output: str
    slices: int
    taken_at: tuple[int, ...]
    left: int
    equal: bool
    arrays: int


def rehearse(
    directory: Path, preempt_at: Sequence[int] = (20, 60), say: Callable[[str], None] = print
) -> Rehearsed:
    """Trains undisturbed, then through preemptions, and compares.

    Args:
      directory: an empty one; "bucket" in it plays Google Cloud Storage.
      preempt_at: the slice is taken away once a checkpoint of such a step is there.
      say: where messages go.

    Raises:
      PodError: if one of the trainings fails.
    """
    bucket = directory / "bucket"
    shutil.copytree(ROOT / "tpu_configs" / "checkpoints", bucket / "checkpoints")
    data = [
        f"--config.tfds_data_dir={bucket / 'data'}",
        f"--config.pretrained_dir={bucket / 'checkpoints'}",
    ]
    say("The same training, undisturbed.")
    command = [sys.executable, "-m", "vit_keras.main", "train", "--config=tpu_configs/digits.py"]
    command += [*SHRUNK, *data, f"--workdir={bucket / 'undisturbed'}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PodError(f"The undisturbed training failed:\n{done.stderr[-3000:]}")

    runtime = f"tpu-vm-tf-{importlib.metadata.version('tensorflow')}-pod-pjrt"
    workdir, taken = bucket / "run", []
    plan = Plan(["There is no more capacity in the zone"], unhealthy_looks=1)
    with FakeCloud(directory / "machines", 2, [runtime], plan) as cloud:
        over = threading.Event()

        def preempt() -> None:
            for step in preempt_at:
                while not over.is_set() and _newest(workdir) < step:
                    time.sleep(0.02)
                if not over.is_set():
                    cloud.preempt()
                    taken.append(_newest(workdir))

        taker = threading.Thread(target=preempt)
        taker.start()
        command = [
            sys.executable, str(ROOT / "tools" / "tpu.py"), "train", *NAME, "--slice=v4-16",
            "--spot", "--max-hours=1", f"--runtime={runtime}", f"--workdir={workdir}",
            f"--api-endpoint={cloud.url}", f"--via=local:{cloud.machines}", "--poll-seconds=0.5",
            "--backoff-seconds=0.5", "--config=tpu_configs/digits.py", *SHRUNK, *data,
        ]  # fmt: skip
        environment = {**os.environ, "VIT_KERAS_CACHE": str(directory / "cache")}
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = []
        for line in process.stdout:
            output.append(line)
            say(line.rstrip())
        code = process.wait()
        over.set()
        taker.join()
        creations = [path for verb, path in cloud.calls if verb == "POST"]
        left = len(cloud.nodes) + len(cloud.queued)
    if code:
        raise PodError(f"tpu.py ended with exit code {code}:\n{''.join(output)[-5000:]}")
    equal, arrays = _equal(bucket / "undisturbed" / "model.npz", workdir / "model.npz")
    refused = 1
    return Rehearsed("".join(output), len(creations) - refused, tuple(taken), left, equal, arrays)


def _newest(workdir: Path) -> int:
    folder = workdir / "checkpoints"
    names = [file.name for file in folder.glob("checkpoint_*.npz")] if folder.is_dir() else []
    return max((int(re.search(r"\d+", name)[0]) for name in names), default=0)


def _equal(one: Path, other: Path) -> tuple[bool, int]:
    with np.load(one, allow_pickle=False) as left, np.load(other, allow_pickle=False) as right:
        if sorted(left.files) != sorted(right.files):
            return False, 0
        same = all(left[name].tobytes() == right[name].tobytes() for name in left.files)
        return same, len(left.files)
