"""How long reading a ViT-B/16 `.npz` into a built model takes, and how much memory.

  python tools/bench_load.py [--npz FILE] [--peer_python PYTHON]

Each reader runs in a process of its own, on the same file, which it reads once beforehand so that
all find it in the page cache. "disk" is `cat FILE`. `--peer_python` is an interpreter of an
environment that has the PyPI package vit-keras 0.2.0, which is then measured too. Memory is the
growth of the process's largest resident size while reading; the model is built before.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

# What the two readers share: the clock, and the largest resident size (reset by writing 5).
_MEASURE = """
import json, os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
def measure(read):
    # TensorFlow's own start-up, which comes with a process's first assignments, is no reader's.
    import sys
    if "tensorflow" in sys.modules:
        import tensorflow as tf
        variable = tf.Variable([0.0, 0.0])
        variable.assign([1.0, 1.0])
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=variable.handle, begin=[0], end=[1], strides=[1], value=[0.0]
        )
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before, start, cpu = status("VmRSS"), time.perf_counter(), time.process_time()
    read()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "peak": status("VmHWM") - before}))
path = sys.argv[1]
with open(path, "rb") as file:
    while file.read(1 << 24):
        pass
"""
_OURS = """
import vit_keras
model = vit_keras.create_model("B/16", classes=1000)
measure(lambda: vit_keras.load_npz(model, path))
"""
_OURS_BUILDING = """
import vit_keras
measure(lambda: vit_keras.from_npz(path))
"""
_PEER = """
from vit_keras import vit, utils
model = vit.build_model(**vit.CONFIG_B, image_size=224, patch_size=16, classes=1000, name="b16")
measure(lambda: utils.load_weights_numpy(model, path, True, 14, 14))
"""
_DISK = """
import subprocess
measure(lambda: subprocess.run(["cat", path], stdout=subprocess.DEVNULL, check=True))
"""


def main() -> None:
    """Prints one line a reader."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--npz", help="a ViT-B/16 checkpoint in legacy naming; made if not given")
    parser.add_argument("--peer_python", help="interpreter with vit-keras 0.2.0")
    parser.add_argument("--repeat", type=int, default=3, help="best of so many (default: 3)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.npz or _make(Path(folder) / "ViT-B_16.npz")
        size = Path(path).stat().st_size
        largest = _largest(path)
        print(f"{path}: {size / 1e6:.0f} MB, largest array {largest / 1e6:.0f} MB")
        readers = {
            "disk (cat)": (sys.executable, _DISK),
            "vit_keras.load_npz into a built model": (sys.executable, _OURS),
            "vit_keras.from_npz, building included": (sys.executable, _OURS_BUILDING),
        }
        if arguments.peer_python:
            readers["vit-keras 0.2.0 into a built model"] = (arguments.peer_python, _PEER)
        print(f"{'reader':<40}{'seconds':>9}{'CPU':>7}{'peak above start':>19}")
        for name, (python, code) in readers.items():
            runs = [_run(python, code, path, folder) for _ in range(arguments.repeat)]
            best = min(runs, key=lambda run: run["seconds"])
            seconds, cpu, peak = best["seconds"], best["cpu"], best["peak"] / 1e6
            print(f"{name:<40}{seconds:>9.2f}{cpu:>7.2f}{peak:>16.0f} MB")


def _run(python: str, code: str, path: str | Path, folder: str) -> dict:
    done = subprocess.run(
        [python, "-c", _MEASURE + code, str(path)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _make(path: Path) -> Path:
    import vit_keras

    vit_keras.save_npz(vit_keras.create_model("B/16"), path)
    return path


def _largest(path: str | Path) -> int:
    import math

    from vit_keras.checkpoints.npz_file import NpzFile

    with NpzFile(path) as file:
        return max(math.prod(spec.shape) * spec.dtype.itemsize for spec in file.specs.values())


if __name__ == "__main__":
    main()
