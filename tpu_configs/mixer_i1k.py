"""Pre-training of Mixer-B/16 on ImageNet-1k, big_vision's recipe (mlp_mixer_i1k).

  vit-keras train --config=tpu_configs/mixer_i1k.py:300 --workdir=DIR

Arguments: [EPOCHS][,runlocal]. EPOCHS is 300 (default) or 60.

`cache_raw` holds the encoded images in the hosts' memory, 120 GB together;
--config.cache_raw=False reads them again in every epoch.

Time: 1.66 h on a v3-128, 106 chip-hours, for 300 epochs (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published time: 2 h 11 min for 300 epochs on a v3-128, 27 min for 60.
Published result: 76.3 % after 300 epochs, 70.5 % after 60.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink


def get_config(text=None):
    """Arguments: "EPOCHS"."""
    epochs, runlocal = arguments.read(text, EPOCHS=("300", ("300", "60")))
    config = common.pre_training(224, runlocal)
    common.imagenet1k(config)
    config.cache_raw = True
    config.model.update({"model_name": "Mixer-B_16", "stochastic_depth": 0.1})
    common.big_vision_pipelines(config, randaug=(2, 15))
    common.big_vision_adam(config)
    config.optim_dtype = "float32"
    config.decay_type = "linear"
    config.linear_end = 1e-5 * config.base_lr
    config.batch = 4096
    config.batch_eval = 4096
    config.total_epochs = int(epochs)
    config.loss = "sigmoid"
    config.head_bias = -6.9
    config.mixup = 0.5
    if runlocal:
        shrink(config)
    return config
