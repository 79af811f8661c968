"""Fine-tuning of a published MLP-Mixer (arXiv 2105.01601), the original's recipe, at 224 px.

  vit-keras train --config=tpu_configs/mixer.py:mixer_b16,cifar10 --workdir=DIR \
      --config.pretrained_dir=DIRECTORY_WITH_Mixer-B_16.npz

Arguments: [MODEL[,DATASET]][,runlocal]. MODEL is mixer_b16 (default), mixer_b32 or mixer_l16,
DATASET as in vit.py (default: cifar10). The files are in gs://mixer_models/imagenet21k, and in
imagenet1k.

Time: 8.4 min on a v5e-8, 1.12 chip-hours, for mixer_b16,cifar10 (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published with the JAX code, on cifar10: pre-trained on ImageNet-1k B/16 96.72, L/16 96.59 %; on
ImageNet-21k B/16 96.82, L/16 98.34 %.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink


def get_config(text=None):
    """Arguments: "MODEL,DATASET"."""
    model, dataset, runlocal = arguments.read(
        text, MODEL=("mixer_b16", common.MIXERS), DATASET=("cifar10", None)
    )
    config = common.fine_tuning(common.MIXERS[model], dataset, 224, runlocal)
    if runlocal:
        shrink(config)
    return config
