"""Accuracy and loss of a model over every image of a split.

  vit-keras evaluate WORKDIR
  vit-keras evaluate MODEL --config=tpu_configs/vit.py:b16,cifar10 [--config.pp.test=validation]

MODEL is a .keras file, an .npz checkpoint, or the workdir of a finished training. Of the config
the keys dataset, pp.test, pp.test_ops, batch_eval, loss, tfds_data_dir, tfds_manual_dir and
strategy are used; for a workdir it is the training's own, unless another is given.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import ml_collections

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own arguments."""
    from vit_keras.commands.model_argument import add_model_arguments

    add_model_arguments(parser)
    parser.add_argument(
        "--config", metavar="FILE[:ARGS]", help="config file; --config.KEY=VALUE changes a key"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints one metric a line."""
    from vit_keras.commands.model_argument import load_model
    from vit_keras.training.evaluate import evaluate

    config = _config(arguments)
    metrics = evaluate(config, lambda: load_model(arguments.model, arguments.image_size))
    for name, value in metrics.items():
        print(f"{name:<20} {value:.6g}")


def _config(arguments: argparse.Namespace) -> ml_collections.ConfigDict:
    from vit_keras.commands.config_argument import read_config

    of_training = Path(arguments.model) / "config.json"
    default = None
    if of_training.is_file():
        default = ml_collections.ConfigDict(json.loads(of_training.read_text(encoding="utf-8")))
    return read_config(arguments.config, arguments.config_changes, default)
