"""Pre-training on ImageNet-1k by GSAM (arXiv 2203.08065), big_vision's recipe, or by SAM.

  vit-keras train --config=tpu_configs/sam_i1k.py:b32 --workdir=DIR

Arguments: [MODEL[,METHOD]][,runlocal]. MODEL is b32 (default), b16, s32, s16 or l16. METHOD is gsam
(default) or sam (arXiv 2010.01412): the same with a constant radius and without the surrogate gap,
to which GSAM then reduces; --config.sharpness.rho=R sets its radius.

`cache_raw` holds the encoded images in the hosts' memory, 120 GB together;
--config.cache_raw=False reads them again in every epoch.

Time: 2.17 h on a v5e-32, 69.6 chip-hours, for b32 (the TPU compiler's
estimate by `vit-keras preflight`, not measured). A step takes two gradients.
Published result: for B/32, GSAM is 3.2 points above SAM and 5.4 above AdamW; SAM lifts B/16 from
74.6 to 79.9 % (arXiv 2106.01548), with a radius of its own for each model.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink

MODELS = {name: common.VITS[name] for name in ("b32", "b16", "s32", "s16", "l16")}


def get_config(text=None):
    """Arguments: "MODEL,METHOD"."""
    model, method, runlocal = arguments.read(
        text, MODEL=("b32", MODELS), METHOD=("gsam", ("gsam", "sam"))
    )
    config = common.pre_training(224, runlocal)
    common.imagenet1k(config)
    config.cache_raw = True
    config.model.update(
        {
            "model_name": MODELS[model],
            "classifier": "gap",
            "pos_embedding": "learned_before_class_token",
        }
    )
    common.big_vision_pipelines(config)
    common.big_vision_adam(config)
    config.optim_dtype = "float32"
    config.base_lr = 3e-3
    config.weight_decay = 1e-3
    config.decay_type = "linear"
    config.linear_end = 0.01 * config.base_lr
    config.batch = 4096
    config.batch_eval = 4096
    config.total_epochs = 300
    config.loss = "sigmoid"
    config.head_bias = -10.0
    config.sharpness.rho = 0.6
    if method == "gsam":
        config.sharpness.rho_min = 0.1
        config.sharpness.alpha = 0.6
    if runlocal:
        shrink(config)
    return config
