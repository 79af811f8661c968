"""Rehearses `tpu.py train` on this machine: `python tools/rehearse_pod.py [--directory=DIR]`.

A TPU API on loopback refuses once, grants a slice of two hosts, is slow to report it healthy, and
takes it away twice while it trains; workers are directories, SSH is local processes. In the end the
weights are compared, bit for bit, with those of the same training undisturbed. Wants the
extras "pods" and "demo", and one of the TensorFlow extras. About two minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from pods.rehearsal.rehearse import rehearse


def main() -> int:
    """Returns 0 if the weights are equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, help="default: a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        found = rehearse(directory.resolve())
    print(
        f"\n{found.slices} slices, taken away after steps {found.taken_at}; {found.left} left "
        f"behind. {found.arrays} arrays: " + ("equal bit for bit." if found.equal else "NOT EQUAL.")
    )
    return 0 if found.equal and not found.left else 1


if __name__ == "__main__":
    sys.exit(main())
