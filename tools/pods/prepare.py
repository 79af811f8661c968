"""Making all workers of a slice alike: the project, its dependencies, the same versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from pods import pins
from pods.errors import PodError
from pods.remote import Remote
from pods.wheel import built_wheel

DIRECTORY = "vit_keras_run"
"""Where everything of ours is on a worker, below its home directory."""

_PROGRAMS = Path(__file__).resolve().parent / "worker"


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What is known of prepared workers.

    Attributes:
      interpreter: the Python to run.
      libtpu: path of libtpu.so on worker 0, or None.
      packages: name -> version, the same everywhere.
    """

    interpreter: str
    libtpu: str | None
    packages: Mapping[str, str]


def prepare(
    remote: Remote, runtime: str, say: Callable[[str], None], *, offline: bool = False
) -> Prepared:
    """Installs on every worker at once, and checks that they agree.

    Args:
      remote: the workers.
      runtime: the image; its name says which TensorFlow it has. An image without TensorFlow gets
        `tensorflow-tpu`, which suits a single host only.
      say: where progress goes.
      offline: pip may use only what the image has.

    Raises:
      PodError: if an installation fails or workers differ; the message says which and in what.
      ValueError: for an image without TensorFlow on several hosts.
    """
    with tempfile.TemporaryDirectory() as directory:
        name, content = built_wheel()
        wheel = Path(directory) / name
        wheel.write_bytes(content)
        spec = _spec(runtime, remote.workers, wheel, offline)
        spec_file = Path(directory) / "install.json"
        spec_file.write_text(json.dumps(spec))
        files = [wheel, spec_file, *sorted(_PROGRAMS.glob("*.py"))]
        pretended = {"packages": {}, "libtpu": "LIBTPU", "interpreter": "PYTHON", "python": ""}

        def one(worker: int) -> dict[str, Any]:
            remote.run(worker, ["mkdir", "-p", DIRECTORY])
            remote.copy(worker, files, DIRECTORY)
            command = ["python3", f"{DIRECTORY}/install.py", f"{DIRECTORY}/{spec_file.name}"]
            answer = remote.run(worker, command, timeout=1800, pretend=json.dumps(pretended))
            return json.loads(answer.strip().splitlines()[-1])

        say(f"Installing {wheel.name} on {remote.workers} workers.")
        with futures.ThreadPoolExecutor(min(16, remote.workers)) as pool:
            reports = list(pool.map(one, range(remote.workers)))
    differing = differences(reports)
    if differing:
        raise PodError(
            "The workers have different versions, so the slice can't be used as it is:\n  "
            + "\n  ".join(differing)
            + "\nDelete it and create it again with one runtime image."
        )
    packages = reports[0]["packages"]
    shown = ", ".join(f"{name} {version}" for name, version in packages.items())
    say(f"All {remote.workers} workers have Python {reports[0]['python']}, {shown}.")
    return Prepared(reports[0]["interpreter"], reports[0]["libtpu"], packages)


def _spec(runtime: str, workers: int, wheel: Path, offline: bool) -> dict[str, Any]:
    image = pins.image_tensorflow(runtime)
    if image is None and workers > 1:
        raise ValueError(
            f"--runtime is {runtime!r}, which has no TensorFlow server; a slice of {workers} hosts "
            "needs an image tpu-vm-tf-X.Y.Z-pod-...."
        )
    version = image or pins.SINGLE_HOST
    return {
        "wheel": wheel.name,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "tensorflow": image,
        "requirements": pins.requirements(version, preinstalled=image is not None),
        # What an image has that may ask nobody is what it has.
        "constraints": [] if offline else pins.constraints(version),
        "offline": offline,
    }


def differences(reports: Sequence[Mapping[str, Any]]) -> list[str]:
    """What isn't the same on all workers: "keras: 3.5.0 on workers 0, 2; 3.6.0 on worker 1"."""
    values: dict[str, list[str]] = {}
    names = ["python", *sorted({name for report in reports for name in report["packages"]})]
    for name in names:
        values[name] = [
            str(report["python"] if name == "python" else report["packages"].get(name, "none"))
            for report in reports
        ]
    lines = []
    for name, found in values.items():
        if len(set(found)) > 1:
            groups = []
            for value in dict.fromkeys(found):
                workers = [str(i) for i, other in enumerate(found) if other == value]
                plural = "s" if len(workers) > 1 else ""
                groups.append(f"{value} on worker{plural} {', '.join(workers)}")
            lines.append(f"{name}: {'; '.join(groups)}")
    return lines
