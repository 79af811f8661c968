"""A text tower trained to a locked image tower with the sigmoid loss, SigLiT (arXiv 2303.15343,
section 4.1), on coco_captions: big_vision's example siglip_lit_coco.

  vit-keras train --config=tpu_configs/siglip_lit_coco.py --workdir=DIR

Arguments: [MODEL][,runlocal]. MODEL is b16 (default) or l16. The image tower is AugReg's
recommended checkpoint (another one: --config.model.image_weights=FILE), the vocabulary BERT's. The
text tower is a BERT of the same size, which starts fresh here and from BERT's weights there. On a
pod, captions must be int32 tokens already.

Time: 3.7 min on a v5e-8, 0.497 chip-hours, for b16 (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published result: none; big_vision's header calls it a minimal example.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink, shrink_towers
from vit_keras import catalog

# The towers and the image tower alone.
MODELS = {"b16": ("LiT-B16B_2", "B/16"), "l16": ("LiT-L16L", "L/16")}


def get_config(text=None):
    """Arguments: "MODEL"."""
    model, runlocal = arguments.read(text, MODEL=("b16", MODELS))
    name, image = MODELS[model]
    config = common.pre_training(224, runlocal)
    config.model.update(
        {
            "model_name": name,
            "image_weights": catalog.resolve(image, "augreg"),
            "has_bias": True,
            "initial_temperature": 10.0,
            "initial_bias": -2.71,
        }
    )
    config.frozen = ("img/.*",)
    config.dataset = "coco_captions"
    config.pp.train, config.pp.test = "train", "val"
    config.text.feature = "captions/text"
    config.text.tokenizer = "wordpiece"
    config.text.vocabulary = catalog.find(name, "lit").vocabulary
    config.text.max_length = 16
    size = config.pp.crop
    config.pp.train_ops = f"decode|resize({size})|flip_lr|randaug(2, 10)"
    config.pp.test_ops = f"decode|resize({size})"
    common.big_vision_adam(config)
    if model != "b16":
        config.optimizer = "adafactor"
    config.weight_decay = 0.01
    config.batch = 512
    config.batch_eval = 512
    config.total_steps = 5_000
    config.warmup_steps = 150
    config.loss = "sigmoid"
    if runlocal:
        shrink(config)
        shrink_towers(config)
    return config
