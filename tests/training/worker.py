"""A worker of test_multi_worker.py; TF_CONFIG says which, the argument where to write."""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import numpy as np
import tensorflow as tf
from tiny_training import make_batches, make_step, tiny_model

from vit_keras.training import TrainLoop, get_strategy
from vit_keras.training.evaluators import ClassificationEvaluator
from vit_keras.training.saving import Checkpoints
from vit_keras.training.strategy import is_chief

STRATEGY = get_strategy("multi_worker")


def make_dataset(context):
    """This worker's half of each batch."""
    images, labels = make_batches(10)
    size = 8 // context.num_replicas_in_sync
    part = slice(context.input_pipeline_id * size, (context.input_pipeline_id + 1) * size)
    arrays = {"image": images[:, part], "label": labels[:, part]}
    arrays["mask"] = np.ones(arrays["label"].shape, np.float32)
    return tf.data.Dataset.from_tensor_slices(arrays)


def main(workdir):
    with STRATEGY.scope():
        model = tiny_model()
        step = make_step(model, accum_steps=2, grad_norm_clip=0.5)
        index = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
        bfloat16 = tf.Variable(tf.fill([2], tf.cast(index + 0.5, tf.bfloat16)))
    chief = is_chief(STRATEGY)
    checkpoints = Checkpoints(str(workdir / "checkpoints"))
    loop = TrainLoop(
        STRATEGY,
        step,
        lambda start, context: make_dataset(context),
        total_steps=10,
        checkpoints=checkpoints,
        is_chief=chief,
    )
    loop.run(0)
    result = {"losses": step.history.numpy()[:, 0].tolist(), "chief": chief}
    result |= dict(ClassificationEvaluator(STRATEGY, model, make_dataset).run())
    result["bfloat16"] = bfloat16.numpy().astype(float).tolist()
    (workdir / f"worker{index}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
