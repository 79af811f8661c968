"""Pre-training of FlexiViT-B on ImageNet-21k (arXiv 2212.08013), big_vision's recipe (i21k_sup).

  vit-keras train --config=tpu_configs/flexivit_i21k.py:90 --workdir=DIR \
      --config.dataset=FOLDER_OR_TFDS_NAME --config.pp.train='train' --config.pp.test='val'

Arguments: [EPOCHS][,runlocal]. EPOCHS is 90 (default), 300 or 1000. Each step trains at one of ten
patch sizes, 8 to 48 px; the weights are kept for patches of 32 px, and
`from_npz(..., patch_size=P)` reads them for any. Positions are resized with aligned corners, as
`from_npz` does, where big_vision takes half-pixel centres. About the data see augreg_i21k.py.

Time: 63.9 h on a v5e-64, 4,090 chip-hours, for 90 epochs with
the smallest patch size in every step (the TPU compiler's
estimate by `vit-keras preflight`, not measured).
Published result: the checkpoints flexivit_b_i21k_{90,300,1000}ep; for their scores at each patch
size see the paper's appendix.
"""

from tpu_configs import arguments, common
from tpu_configs.runlocal import shrink


def get_config(text=None):
    """Arguments: "EPOCHS"."""
    epochs, runlocal = arguments.read(text, EPOCHS=("90", ("90", "300", "1000")))
    config = common.pre_training(240, runlocal)
    config.dataset = "imagenet21k"
    config.pp.train, config.pp.test = "full[51200:]", "full[:25600]"
    config.model.update({"model_name": "B/32", "pos_embedding": "learned_before_class_token"})
    common.flexible(config, runlocal)
    common.big_vision_pipelines(config, randaug=(2, 10))
    common.big_vision_adam(config)
    config.batch = 4096
    config.batch_eval = 4096
    config.total_epochs = int(epochs)
    config.loss = "sigmoid"
    config.head_bias = -10.0
    config.mixup = 0.2
    config.eval_every = 5_000
    if runlocal:
        shrink(config)
    return config
