"""Fine-tuning of a published Vision Transformer, the original's recipe (arXiv 2010.11929, B.1.1).

  vit-keras train --config=tpu_configs/vit.py:b16,cifar10 --workdir=DIR \
      --config.pretrained_dir=DIRECTORY_WITH_ViT-B_16.npz

Arguments: MODEL,DATASET[,runlocal]. MODEL is ti16, s16, s32, b8, b16, b32, l16, l32, h14; a hybrid:
r_ti16, r26_s32, r26_b32, r50_b16, r50_l32; or one of mixer.py's. DATASET is cifar10, cifar100,
imagenet2012, oxford_iiit_pet, oxford_flowers102 or a folder {train,test}/<class>/*.jpg|png. The
files are in gs://vit_models/imagenet21k, which `pretrained_dir` may be itself.

Time: 43 min on a v5e-8, 5.75 chip-hours, for b16,cifar10 (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published with the JAX code, dropout 0, 384 px, on cifar10, cifar100 and imagenet2012:
  B/16 99.02, 92.06, 84.53 %; B/32 98.88, 92.31, 81.66 %; L/16 99.13, 92.91, 84.47 % (85.05 with
  dropout 0.1, which is the default here); L/32 99.06, 93.29, 81.89 %; R50+B/16 98.72, 90.88,
  83.72 % (85.08 with dropout 0.1, the default here).
Shorter, B/16 on cifar10: 98.59 % after 500 steps (--config.total_steps=500
--config.warmup_steps=50), 98.86 % after 1,000.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink


def get_config(text="b16,cifar10"):
    """Arguments: "MODEL,DATASET"."""
    models = {**common.VITS, **common.HYBRIDS, **common.MIXERS}
    model, dataset, runlocal = arguments.read(text, MODEL=(None, models), DATASET=(None, None))
    # A Mixer's weights are for one size.
    size = 224 if model in common.MIXERS else 384
    config = common.fine_tuning(models[model], dataset, size, runlocal)
    if (model, dataset) == ("b16", "cifar10"):
        config.base_lr = 0.01
    if runlocal:
        shrink(config)
    return config
