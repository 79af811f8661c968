"""Pre-training on ImageNet-21k, AugReg's recipe (arXiv 2106.10270), for every size.

  vit-keras train --config=tpu_configs/augreg_i21k.py:b16 --workdir=DIR \
      --config.dataset=FOLDER_OR_TFDS_NAME --config.pp.train='train' --config.pp.test='val'

Arguments: SIZE[,AUGMENTATION[,EPOCHS]][,runlocal]. SIZE is ti16, s32, s16, b32, b16, l16, r_ti16,
r26_s32 or r50_l32. AUGMENTATION is `best` (default), or none, light1, light2, medium1, medium2,
strong1, strong2. EPOCHS is 300 (default) or 30. `best` takes augmentation, weight decay, dropout
and stochastic depth of the size's best published checkpoint; a named level the same with that
level.

ImageNet-21k isn't in the public TFDS: have a TFDS builder `imagenet21k` with one split `full`, or
name a folder of images or of TFRecords (tools/make_tfrecords.py) and its splits, as above.

Time: 7.04 h on a v5e-256, 1,800 chip-hours, for b16 (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published for the best checkpoints, fine-tuned on ImageNet-1k at 384 px: L/16 85.59, B/16 85.49,
S/16 83.73, R50+L/32 85.99, R26+S/32 83.85, Ti/16 78.22, B/32 83.59, S/32 79.58, R+Ti/16 75.40 %.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink

# Size: augmentation, weight decay (relative to the learning rate, as in the files' names), dropout,
# stochastic depth of the recommended checkpoint.
BEST = {
    "ti16": ("none", 0.03, 0.0, 0.0),
    "s32": ("none", 0.1, 0.0, 0.0),
    "s16": ("light1", 0.03, 0.0, 0.0),
    "b32": ("light1", 0.1, 0.0, 0.0),
    "b16": ("medium1", 0.1, 0.0, 0.0),
    "l16": ("strong1", 0.1, 0.0, 0.0),
    "r_ti16": ("none", 0.03, 0.0, 0.0),
    "r26_s32": ("light1", 0.1, 0.0, 0.0),
    "r50_l32": ("medium1", 0.1, 0.1, 0.1),
}


def get_config(text="b16"):
    """Arguments: "SIZE,AUGMENTATION,EPOCHS"."""
    size, augmentation, epochs, runlocal = arguments.read(
        text,
        SIZE=(None, BEST),
        AUGMENTATION=("best", ("best", *common.AUGMENTATIONS)),
        EPOCHS=("300", ("300", "30")),
    )
    best, decay, dropout, stochastic_depth = BEST[size]
    level = best if augmentation == "best" else augmentation
    randaug, mixup = common.AUGMENTATIONS[level]
    config = common.pre_training(224, runlocal)
    config.dataset = "imagenet21k"
    config.pp.train, config.pp.test = "full[51200:]", "full[:25600]"
    config.model.update(
        {
            "model_name": {**common.VITS, **common.HYBRIDS}[size],
            "dropout": dropout,
            "stochastic_depth": stochastic_depth,
        }
    )
    common.big_vision_pipelines(config, randaug)
    common.big_vision_adam(config)
    config.weight_decay = decay * config.base_lr
    config.batch = 4096
    config.batch_eval = 4096
    config.total_epochs = int(epochs)
    config.loss = "sigmoid"
    config.head_bias = -10.0
    config.mixup = mixup
    if runlocal:
        shrink(config)
    return config
