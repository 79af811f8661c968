"""Train or fine-tune as a config says, evaluate, save and export.

  vit-keras train --config=tpu_configs/vit.py:b16,cifar10 --workdir=DIR \\
      --config.pretrained_dir=CHECKPOINTS --config.batch=256

--config=FILE or --config=FILE:args names a config file (a path, or one of the package's
tpu_configs); --config.key=value changes a key. Keys are those of the original
vision_transformer (pretrained_dir, dataset, pp.train, pp.test, pp.crop, total_steps, base_lr,
decay_type, warmup_steps, batch, batch_eval, accum_steps, grad_norm_clip, optim_dtype,
shuffle_buffer, eval_every, progress_every, checkpoint_every, ...) and more: all of them, with
defaults and meaning, stand in vit_keras/training/config_defaults.py.

config.dataset is the name of a TFDS data set, or a folder {train,test}/<class>/*.jpg|png.

Started again with the same --workdir, it continues from the last checkpoint, or says that it is
finished. SIGTERM makes it save and leave with exit code 75; start it again to go on. Of several
workers, each leaves with 76 when another one is gone.
"""

from __future__ import annotations

import argparse
import os
import sys

from absl import logging

TAKES_CONFIG = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's own arguments."""
    parser.add_argument("--workdir", required=True, help="directory of the run, local or gs://")
    parser.add_argument(
        "--config", metavar="FILE[:ARGS]", help="config file; --config.KEY=VALUE changes a key"
    )
    parser.add_argument(
        "--profile",
        metavar="FIRST:LAST",
        help="write a trace of these steps for TensorBoard (the same as --config.profile)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Trains, then writes the model in every form."""
    from vit_keras import training
    from vit_keras.commands.config_argument import read_config
    from vit_keras.export import write_artifacts

    config = read_config(arguments.config, arguments.config_changes)
    if arguments.profile is not None:
        config.profile = arguments.profile
    try:
        result = training.train(config, arguments.workdir)
    except (training.TrainingDivergedError, training.CheckpointError) as error:
        sys.exit(f"vit-keras train: {error}")
    except training.WorkerLost as error:
        # An orderly end would wait for the worker that is gone.
        print(f"vit-keras train: {error}", file=sys.stderr, flush=True)
        os._exit(error.code)
    if not result.is_chief:
        return
    if result.already_finished:
        print(f"The run in {arguments.workdir} is already finished; nothing was changed.")
    paths = write_artifacts(result.model, arguments.workdir, result.class_names)
    logging.info("Wrote %s.", ", ".join(paths.values()))
    _say_what_there_is(result, arguments.workdir, paths)


def _say_what_there_is(result, workdir: str, paths: dict[str, str]) -> None:
    metrics = result.metrics
    if "test/accuracy" in metrics:
        share = f"{100 * metrics['test/accuracy']:.2f} %"
        images = int(metrics["test/examples"])
        print(f"\nTest accuracy: {share} of all {images} test images, after {result.step} steps.")
    keras_file = paths["model.keras"]
    print(
        f"""
TensorBoard summaries  tensorboard --logdir {workdir}
Keras model            import vit_keras; tf.keras.models.load_model({keras_file!r})
SavedModel             tf.saved_model.load({paths["saved_model"]!r})
JAX checkpoint         vit_keras.from_npz({paths["model.npz"]!r})
Predict with it        vit-keras predict {keras_file} IMAGE..."""
    )
