"""The input pipeline: sources, preprocessing, training order and exact evaluation.

`get_source` finds the data, a pipeline string (see `registry`) says what happens to an image,
`train_dataset` and `eval_dataset` make `tf.data.Dataset`s of batches from the two.
"""

from vit_keras.data.bad_images import BadImages, told_plainly
from vit_keras.data.evaluation import eval_dataset, num_eval_batches
from vit_keras.data.registry import available_ops, build_pipeline, register_op
from vit_keras.data.sources import Source, get_source
from vit_keras.data.training import train_dataset

__all__ = [
    "BadImages",
    "Source",
    "available_ops",
    "build_pipeline",
    "eval_dataset",
    "get_source",
    "num_eval_batches",
    "register_op",
    "told_plainly",
    "train_dataset",
]
