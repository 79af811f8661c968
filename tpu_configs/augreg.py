"""Fine-tuning of one of AugReg's 50,000 checkpoints (arXiv 2106.10270), the original's recipe.

  vit-keras train --config=tpu_configs/augreg.py:R_Ti_16 --workdir=DIR \
      --config.dataset=oxford_iiit_pet --config.pp.train='train[:90%]' --config.base_lr=0.01

Arguments: MODEL_OR_FILENAME[,runlocal]. A model (Ti_16, S_32, S_16, B_32, B_16, B_8, L_16, R_Ti_16,
R26_S_32, R50_L_32) stands for its ImageNet-21k checkpoint with the best upstream validation
accuracy, as index.csv in `pretrained_dir` has it. A file of that folder is named without .npz:
augreg.py:R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0. `dataset` must be set.

Time: 25 s on a v5e-8, 0.0545 chip-hours, for R_Ti_16 on Oxford pets (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published for the best checkpoints, fine-tuned on ImageNet-1k in 20,000 steps at 384 px: L/16 85.59,
B/16 85.49, S/16 83.73, R50+L/32 85.99, R26+S/32 83.85, Ti/16 78.22, B/32 83.59, S/32 79.58,
R+Ti/16 75.40 %.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import pixels, shrink
from vit_keras.checkpoints.augreg_index import DIRECTORY, parse_stem
from vit_keras.names import unknown_name
from vit_keras.training import config_defaults

# AugReg's names, which are the original's without "ViT-" and with _ for +.
MODELS = {
    name.replace("ViT-", "").replace("+", "_"): name
    for name in {**common.VITS, **common.HYBRIDS}.values()
    if name not in ("ViT-L_32", "ViT-H_14", "R50+ViT-B_16", "R26+ViT-B_32")
}


def get_config(text="R_Ti_16"):
    """Arguments: "MODEL_OR_FILENAME"."""
    model_or_filename, runlocal = arguments.read(text, MODEL_OR_FILENAME=(None, None))
    parsed = parse_stem(model_or_filename)
    model = parsed[0] if parsed else model_or_filename
    if model not in MODELS:
        raise unknown_name("argument MODEL_OR_FILENAME", model_or_filename, MODELS)
    config = config_defaults.get_config()
    config.pretrained_dir = DIRECTORY
    config.model_or_filename = model_or_filename
    config.model.model_name = MODELS[model]
    config.total_steps = 500
    config.warmup_steps = 100
    config.pp.crop = pixels(384, runlocal)
    if runlocal:
        shrink(config)
    return config
