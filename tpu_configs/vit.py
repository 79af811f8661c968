"""Fine-tuning of a published Vision Transformer, the original's recipe (arXiv 2010.11929, B.1.1).

  vit-keras train --config=tpu_configs/vit.py:b16,cifar10 --workdir=DIR \
      --config.pretrained_dir=DIRECTORY_WITH_ViT-B_16.npz

The first argument is the model (ti16, s16, s32, b8, b16, b32, l16, l32, h14), the second a data set
(cifar10, cifar100, imagenet2012, oxford_iiit_pet, oxford_flowers102) or a folder
{train,test}/<class>/*.jpg|png.

Published with the JAX code, dropout 0, 384 px: B/16 99.02 % on cifar10, 92.06 % on cifar100,
84.53 % on imagenet2012 (shorter: 98.59 % on cifar10 after 500 steps). Nobody has run this
configuration with this code on a TPU yet, so there is no time of our own to state.
"""

from tpu_configs import common


def get_config(arguments="b16,cifar10"):
    """Arguments: "MODEL,DATASET"."""
    model, dataset = common.split_arguments(arguments, "MODEL,DATASET")
    config = common.fine_tuning(common.published_name(model), dataset)
    if (config.model.model_name, dataset) == ("ViT-B_16", "cifar10"):
        config.base_lr = 0.01
    return config
