"""Sets up and runs the tests: `python3 tools/run_tests.py [--stack=classic] [pytest arguments]`."""

from __future__ import annotations

import argparse
import subprocess
import sys

from environment import ROOT, STACKS, python_with


def main() -> int:
    """Returns pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stack", choices=STACKS, default="modern", help="default: modern")
    arguments, pytest_arguments = parser.parse_known_args()
    python = python_with(["test"], arguments.stack)
    # Two processes, each file in one of them. A later -n of the user's counts.
    command = [str(python), "-m", "pytest", "-n", "2", "--dist", "loadfile", *pytest_arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
