"""The main job of the quick start: real images, a JAX-named checkpoint, another resolution.

  vit-keras train --config=tpu_configs/digits.py --workdir=DIR

Fine-tunes a small ViT (0.2 M parameters), which tools/make_digits_checkpoint.py trained on
the digits 0 to 4 of scikit-learn's handwritten digits at 16 px, on the digits 5 to 9 at 24 px: 671
images to train, 225 to test. The original's fine-tuning recipe (SGD momentum, cosine, clip 1.0,
a fresh head of zeros), but with smaller crops and without mirroring, which digits do not
survive.

Arguments: [runlocal].

Time and result: at least 97 % in less than two minutes on two CPU cores, measured.
"""

from pathlib import Path

from tpu_configs import arguments
from tpu_configs.runlocal import shorten
from vit_keras.training import config_defaults

CHECKPOINTS = Path(__file__).resolve().parent / "checkpoints"


def get_config(text=None):
    """No arguments but `runlocal`."""
    (runlocal,) = arguments.read(text)
    config = config_defaults.get_config()
    config.pretrained_dir = str(CHECKPOINTS)
    config.model.model_name = "digits_0_4"
    config.dataset = "sklearn_digits/digits_5_9"
    config.pp.crop = 24
    config.pp.train_ops = "decode|inception_crop(24, area_min=60)"
    config.shuffle_buffer = 1_000
    config.batch = 64
    config.accum_steps = 1
    config.total_steps = 800
    config.base_lr = 0.06
    config.warmup_steps = 50
    config.eval_every = 200
    config.checkpoint_every = 100
    config.batch_eval = 128
    if runlocal:
        shorten(config)
    return config
