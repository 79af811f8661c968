"""Pre-training of ViT-S/16 on ImageNet-1k, big_vision's recipe (arXiv 2205.01580).

  vit-keras train --config=tpu_configs/vit_s16_i1k.py:90 --workdir=DIR

Arguments: [EPOCHS][,runlocal]. EPOCHS is 90 (default), 150 or 300.

`cache_raw` holds the encoded images in the hosts' memory, 120 GB together;
--config.cache_raw=False reads them again in every epoch.

Time: 5.41 h on a v3-8, 21.6 chip-hours, for 90 epochs (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published time: 6 to 7 h for 90 epochs on a v3-8, less than a day for 300.
Published result: 76.5 % after 90 epochs, 80 % after 300.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink


def get_config(text=None):
    """Arguments: "EPOCHS"."""
    epochs, runlocal = arguments.read(text, EPOCHS=("90", ("90", "150", "300")))
    config = common.pre_training(224, runlocal)
    common.imagenet1k(config)
    config.cache_raw = True
    config.model.update(
        {
            "model_name": "S/16",
            "classifier": "gap",
            "pos_embedding": "sincos2d",
            "representation_size": 384,
        }
    )
    common.big_vision_pipelines(config, randaug=(2, 10))
    common.big_vision_adam(config)
    config.batch = 1024
    config.batch_eval = 1024
    config.total_epochs = int(epochs)
    config.mixup = 0.2
    if runlocal:
        shrink(config)
    return config
