"""Small models, batches and steps for the engine's tests."""

import keras
import numpy as np
import tensorflow as tf

from vit_keras import compat
from vit_keras.layers import StatelessDropout
from vit_keras.training import tasks
from vit_keras.training.losses import softmax_cross_entropy
from vit_keras.training.optimizers import SGD
from vit_keras.training.parameter_settings import make_settings
from vit_keras.training.schedules import Schedule
from vit_keras.training.train_step import TrainStep


def tiny_model(dropout=0.0, classes=3, seed=1):
    """A convolution and two dense layers on (8, 8, 3) images; seeded, under named variables."""
    keras.utils.set_random_seed(seed)
    images = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 4, 4, name="embedding")(images)
    x = keras.layers.Flatten()(x)
    x = StatelessDropout(dropout)(x)
    x = keras.layers.Dense(8, activation="tanh", name="pre_logits")(x)
    return keras.Model(images, keras.layers.Dense(classes, name="head", dtype="float32")(x))


def names(model):
    """Path -> variable of any Keras model."""
    return {compat.weight_path(v): v for v in model.weights}


def make_step(model, *, rule=None, settings=None, loss=softmax_cross_entropy, **kwargs):
    """A TrainStep for `tiny_model` at a constant rate of 0.1, unless told otherwise."""
    named = names(model)
    arguments = dict(
        task=tasks.classification(loss),
        rule=rule or SGD(accumulator_dtype="float32"),
        schedule=Schedule(0.1, 1000, "constant"),
        settings=make_settings(named) if settings is None else settings,
        global_batch=8,
        history_length=10,
    )
    return TrainStep(model, named, **{**arguments, **kwargs})


def make_batches(num_batches=10, batch=8, classes=3, seed=0):
    """Random images and labels, (num_batches, batch, ...)."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (num_batches, batch, 8, 8, 3), dtype=np.uint8)
    return images, rng.integers(0, classes, (num_batches, batch))


def run_steps(strategy, step, images, labels):
    """Feeds each replica its share of each batch; returns the step's history."""
    replicas = strategy.num_replicas_in_sync

    def share(context, array):
        size = len(array) // replicas
        number = context.replica_id_in_sync_group
        return tf.constant(array[number * size : (number + 1) * size])

    compiled = tf.function(lambda batch: strategy.run(step, args=(batch,)))
    for image, label in zip(images, labels, strict=True):
        values = {
            "image": strategy.experimental_distribute_values_from_function(
                lambda context, array=image: share(context, array)
            ),
            "label": strategy.experimental_distribute_values_from_function(
                lambda context, array=label: share(context, array)
            ),
        }
        compiled(values)
    return step.history.numpy()[: len(images)]
