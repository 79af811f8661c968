"""Sets up and runs the main job: `python3 tools/quickstart.py [--workdir=DIR] [--config.KEY=V]`.

Fine-tunes a small Vision Transformer, read from the JAX-named checkpoint that comes with the
project, on real images of handwritten digits at a higher resolution; evaluates, saves, exports.
Under two minutes on two cores once TensorFlow is installed. Further arguments go to
`vit-keras train`. Started again it says that it is finished, and overwrites nothing.
"""

from __future__ import annotations

import subprocess
import sys

from environment import ROOT, python_with


def main() -> int:
    """Returns the exit code of the training command."""
    python = python_with(["demo"])
    arguments = sys.argv[1:]
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments.insert(0, f"--workdir={ROOT / 'workdir' / 'digits'}")
    command = [str(python), "-m", "vit_keras.main", "train", "--config=tpu_configs/digits.py"]
    return subprocess.run([*command, *arguments], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
