"""Say what a checkpoint holds: architecture, naming, classes, whether its head is all zeros.

  vit-keras inspect FILE.npz

Reads headers only (and the head), so it is quick for files of any size.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own arguments."""
    parser.add_argument("files", nargs="+", metavar="FILE.npz", help="JAX checkpoints")
    parser.add_argument(
        "--image_size", type=int, help="needed where the checkpoint stores no positions"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints one description a file."""
    from vit_keras.checkpoints.describe import describe

    for file in arguments.files:
        print(
            describe(file, arguments.image_size), end="\n\n" if len(arguments.files) > 1 else "\n"
        )
