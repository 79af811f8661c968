"""Pre-training on ImageNet-1k, DeiT's recipe (arXiv 2012.12877) as the TF Model Garden has it.

  vit-keras train --config=tpu_configs/deit_i1k.py:b16 --workdir=DIR

Arguments: [MODEL][,runlocal]. MODEL is b16 (default), l16, s16 or ti16; all have the same settings.

From `deit_imagenet_pretrain` in official/projects/vit: batch 4096, 300 epochs of 312 steps, AdamW
(decay 0.05, Keras' form), peak 4e-3, cosine, RandAugment (2, 9), mixup 0.8, CutMix 1.0, label
smoothing 0.1, stochastic depth 0.1. RandAugment here also has Cutout, which is left out there.

Time: 11.9 h on a v5e-16, 190 chip-hours, for b16 (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published by the TF Model Garden: B/16 81.3 to 81.8 % (4x4 slice), S/16 79.4 % (4x8), L/16 82.2 %
(8x8), Ti/16 73.4 %.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink

# Width of the tanh layer before the head: that of the tokens.
MODELS = {"b16": ("B/16", 768), "l16": ("L/16", 1024), "s16": ("S/16", 384), "ti16": ("Ti/16", 192)}
STEPS_PER_EPOCH = 312


def get_config(text=None):
    """Arguments: "MODEL"."""
    model, runlocal = arguments.read(text, MODEL=("b16", MODELS))
    config = common.pre_training(224, runlocal)
    common.imagenet1k(config)
    config.pp.train = "train"
    name, width = MODELS[model]
    config.model.update({"model_name": name, "representation_size": width, "stochastic_depth": 0.1})
    size = config.pp.crop
    config.pp.train_ops = (
        f"decode_jpeg_and_inception_crop({size}, area_min=8)|flip_lr|randaug(2, 9)"
    )
    config.pp.test_ops = common.central_crop(size)
    config.batch = 4096
    config.batch_eval = 4096
    config.total_steps = 300 * STEPS_PER_EPOCH
    config.warmup_steps = 5 * STEPS_PER_EPOCH
    config.optimizer = "adamw"
    config.optim_dtype = "float32"
    config.base_lr = 4e-3
    config.weight_decay = 0.05
    config.weight_decay_form = "keras"
    config.grad_norm_clip = None
    config.label_smoothing = 0.1
    config.mixup = 0.8
    config.cutmix = 1.0
    if runlocal:
        shrink(config)
    return config
