"""Trains the quick start's checkpoint: `python tools/make_digits_checkpoint.py [--workdir=DIR]`.

A small ViT on the digits 0 to 4 of scikit-learn's handwritten digits at 16 px, with the
project's own training loop, written in the legacy JAX naming by its own writer to
tpu_configs/checkpoints/digits_0_4.npz. Takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import vit_keras
from tpu_configs import digits
from vit_keras import models, training

ARCHITECTURE = models.ViTConfig(
    hidden_size=64, mlp_dim=256, num_heads=4, num_layers=4, patch_size=4, image_size=16, classes=5
)


def main() -> None:
    """Trains in a temporary directory and moves the checkpoint to its place."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", help="keep the run here (default: a temporary directory)")
    workdir = Path(parser.parse_args().workdir or tempfile.mkdtemp())
    workdir.mkdir(parents=True, exist_ok=True)
    vit_keras.save_npz(models.build_vit(ARCHITECTURE), workdir / "start.npz")

    config = digits.get_config()
    config.pretrained_dir, config.model.model_name = str(workdir), "start"
    config.dataset = "sklearn_digits/digits_0_4"
    config.tfds_data_dir = str(workdir / "data")
    config.pp.crop = 16
    config.pp.train_ops = "decode|inception_crop(16, area_min=60)"
    config.optimizer, config.base_lr = "adam", 1e-3
    config.total_steps = 1_500
    config.eval_every = 500
    result = training.train(config, str(workdir / "run"))
    print({name: round(value, 4) for name, value in result.metrics.items()})

    digits.CHECKPOINTS.mkdir(exist_ok=True)
    vit_keras.save_npz(result.model, workdir / "digits_0_4.npz", naming="legacy")
    shutil.copy(workdir / "digits_0_4.npz", digits.CHECKPOINTS / "digits_0_4.npz")
    print(f"Wrote {digits.CHECKPOINTS / 'digits_0_4.npz'}")


if __name__ == "__main__":
    main()
