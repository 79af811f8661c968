"""Two towers from scratch with the sigmoid loss: SigLIP (arXiv 2303.15343).

  vit-keras train --config=tpu_configs/siglip.py:b16 --workdir=DIR \
      --config.dataset=TFDS_NAME --config.text.feature=captions/text

Arguments: [MODEL][,runlocal]. MODEL is b16 (default), l16 or so400m14. `dataset` is a TFDS data set
whose feature `config.text.feature` holds captions (default: coco_captions); without a feature,
captions are made of the class's name by `config.text.templates`. On a pod, captions must be int32
tokens already. The vocabulary is that of the published models.

Time: 7.28 h on a v5e-32, 233 chip-hours, for b16 (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published result: none that can be compared, because WebLI, the paper's data set, isn't public.
coco_captions, the default, has 83,000 images, and shows no more than that training works.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink, shrink_towers
from vit_keras import catalog

MODELS = {"b16": "SigLIP-B/16", "l16": "SigLIP-L/16", "so400m14": "SigLIP-So400m/14"}


def get_config(text=None):
    """Arguments: "MODEL"."""
    model, runlocal = arguments.read(text, MODEL=("b16", MODELS))
    config = common.pre_training(224, runlocal)
    config.model.model_name = MODELS[model]
    config.dataset = "coco_captions"
    config.pp.train, config.pp.test = "train", "val"
    config.text.feature = "captions/text"
    config.text.vocabulary = catalog.find(MODELS[model], "siglip").vocabulary
    config.text.options.pad_id = 1
    size = config.pp.crop
    config.pp.train_ops = f"decode|resize({size})|flip_lr"
    config.pp.test_ops = f"decode|resize({size})"
    common.big_vision_adam(config)
    config.optimizer_args.beta_2 = 0.95
    config.batch = 4096
    config.batch_eval = 1024
    config.total_steps = 100_000
    config.loss = "sigmoid"
    if runlocal:
        shrink(config)
        shrink_towers(config)
    return config
