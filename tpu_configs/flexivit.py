"""Distillation of FlexiViT on ImageNet-1k (arXiv 2212.08013), big_vision's i1k_deit3_distill.

  vit-keras train --config=tpu_configs/flexivit.py:b,90 --workdir=DIR

Arguments: [SIZE[,EPOCHS]][,runlocal]. SIZE is b (default), s or l, EPOCHS 90 (default), 300, 600 or
1200. Teacher and initial weights are DeiT III of that size at 384 px, from big_vision's bucket.

Each step trains at one of ten patch sizes, 8 to 48 px; the weights are kept for patches of 16 px,
and `from_npz(..., patch_size=P)` reads them for any. Positions are resized with aligned corners, as
`from_npz` does, where big_vision takes half-pixel centres; and the teacher gets the student's image
enlarged, where there it gets the crop at its own size.

Time: 5.74 h on a v5e-64, 368 chip-hours, for b with the
smallest patch size in every step (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published time: S in 90 epochs 10 h 16 min on a v3-32, of which 4 h 39 min are evaluation.
Published result, as timm measures the published files at patch 16 and 240 px: L 85.65 % (1200
epochs), 85.54 (600), 85.29 (300); B 84.41 (300); S 82.52 (1200), 82.36 (600).
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import HERE, shrink

SIZES = {"b": ("B/16", "base"), "s": ("S/16", "small"), "l": ("L/16", "large")}
DEIT3 = "gs://big_vision/zoo/deit3"


def get_config(text=None):
    """Arguments: "SIZE,EPOCHS"."""
    size, epochs, runlocal = arguments.read(
        text, SIZE=("b", SIZES), EPOCHS=("90", ("90", "300", "600", "1200"))
    )
    config = common.pre_training(240, runlocal)
    common.imagenet1k(config)
    name, deit3_size = SIZES[size]
    config.model.model_name = name
    config.pretrained_dir = DEIT3
    config.model_or_filename = f"bv_deit_3_{deit3_size}_384_1k"
    config.reset_head = False
    config.teacher = f"{DEIT3}/{config.model_or_filename}.npz"
    config.teacher_size = 384
    config.teacher_model = name
    common.flexible(config, runlocal)
    pixels = config.pp.crop
    config.pp.train_ops = f"decode|inception_crop({pixels})|flip_lr"
    config.pp.test_ops = common.central_crop(pixels)
    common.big_vision_adam(config)
    config.base_lr = 1e-4
    config.weight_decay = 1e-5
    config.warmup_steps = 5_000
    config.batch = 1024
    config.batch_eval = 1024
    config.total_epochs = int(epochs)
    config.mixup = 1.0
    if runlocal:
        shrink(config)
        config.teacher = str(HERE / "checkpoints" / "digits_0_4.npz")
        config.teacher_size = 24
        config.dataset = "sklearn_digits/digits_0_4"
    return config
