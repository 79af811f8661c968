"""One helper that checks what every layer owes its users.

A layer's test is a declaration: how to make it, what goes in, what shape comes out.
"""

import inspect

import keras
import numpy as np
import tensorflow as tf


def check_layer(layer_class, arguments, input_shape, output_shape, num_weights, tmp_path):
    """Config round trip, symbolic, eager and compiled calls, dtype policies, saving, gradients.

    Args:
      layer_class: the layer.
      arguments: of its constructor.
      input_shape: with the batch in front.
      output_shape: likewise.
      num_weights: how many weights it has, all of them trainable.
      tmp_path: where to save.
    """
    inputs = np.random.default_rng(0).normal(size=input_shape).astype(np.float32)
    layer = layer_class(**arguments, name="layer")

    # Symbolic, with an unknown batch.
    symbolic_in = keras.Input(input_shape[1:])
    symbolic_out = layer(symbolic_in)
    assert tuple(symbolic_out.shape) == (None, *output_shape[1:])
    if "compute_output_shape" in vars(layer_class):
        assert tuple(layer.compute_output_shape((None, *input_shape[1:])))[1:] == output_shape[1:]
    assert len(layer.weights) == len(layer.trainable_weights) == num_weights

    # Config.
    config = layer.get_config()
    twin = layer_class.from_config(config)
    assert twin.get_config() == config
    assert arguments.items() <= {k: config.get(k) for k in arguments}.items() or all(
        np.all(np.asarray(config[k]) == np.asarray(v)) for k, v in arguments.items()
    )

    # Eager and compiled give the same; the twin with the same weights does, too.
    eager = layer(inputs)
    assert eager.shape == output_shape
    compiled = tf.function(lambda x: layer(x, training=False) if _trains(layer) else layer(x))
    np.testing.assert_allclose(eager, compiled(tf.constant(inputs)), rtol=2e-5, atol=2e-6)
    twin(inputs)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(twin(inputs), eager)

    # Gradients reach every weight.
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(layer(inputs)))
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert all(gradient is not None for gradient in gradients)

    # Policies: variables in float32, results in the compute dtype.
    mixed = layer_class(**arguments, dtype="mixed_bfloat16")
    assert mixed(inputs).dtype == tf.bfloat16
    assert all(weight.dtype == "float32" for weight in mixed.weights)
    again = layer_class.from_config(mixed.get_config())
    assert again(inputs).dtype == tf.bfloat16

    # Saving, with nothing but the registration to go by.
    model = keras.Model(symbolic_in, symbolic_out)
    expected = model.predict(inputs, verbose=0)
    model.save(tmp_path / "layer.keras")
    loaded = tf.keras.models.load_model(tmp_path / "layer.keras")
    np.testing.assert_array_equal(loaded.predict(inputs, verbose=0), expected)


def _trains(layer):
    return "training" in inspect.signature(layer.call).parameters
