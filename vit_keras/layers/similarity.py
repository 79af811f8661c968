"""How alike images and texts are."""

from __future__ import annotations

import math

import keras
import tensorflow as tf

from vit_keras import compat


@keras.saving.register_keras_serializable(package="vit_keras")
class Similarity(keras.layers.Layer):
    """`zimg · ztxtᵀ · exp(t) + b` with a learned log temperature and perhaps a learned bias.

    LiT (arXiv 2111.07991) has no bias, SigLIP (arXiv 2303.15343, algorithm 1) has one.

    Args:
      initial_temperature: what exp(t) starts from.
      initial_bias: what b starts from; None for no bias.
    """

    def __init__(
        self, initial_temperature: float = 1.0, initial_bias: float | None = None, **kwargs
    ):
        super().__init__(**kwargs)
        self.initial_temperature = initial_temperature
        self.initial_bias = initial_bias
        self.b = None

    def build(self, input_shape):
        """Makes `t` (1,) and, with a bias, `b` (1,)."""
        exact = compat.full_precision_weight()

        def scalar(name, value):
            initial = keras.initializers.Constant(value)
            return self.add_weight(name=name, shape=(1,), initializer=initial, **exact)

        self.t = scalar("t", math.log(self.initial_temperature))
        if self.initial_bias is not None:
            self.b = scalar("b", self.initial_bias)
        super().build(input_shape)

    def call(self, inputs):
        """Compares every image with every text, in float32.

        Args:
          inputs: image embeddings (images, D) and text embeddings (texts, D), of length 1.

        Returns:
          `similarity_logits` (images, texts), `temperature` (1,) and, if there is one,
          `bias` (1,), in a dict.
        """
        images, texts = (tf.cast(x, tf.float32) for x in inputs)
        temperature = tf.exp(tf.cast(self.t, tf.float32))
        logits = tf.matmul(images, texts, transpose_b=True) * temperature
        if self.b is None:
            return {"similarity_logits": logits, "temperature": temperature}
        bias = tf.cast(self.b, tf.float32)
        return {
            "similarity_logits": logits + bias,
            "temperature": temperature,
            "bias": tf.identity(bias),
        }

    def compute_output_shape(self, input_shape):
        """As `call` describes."""
        shapes = {
            "similarity_logits": (input_shape[0][0], input_shape[1][0]),
            "temperature": (1,),
        }
        return shapes if self.initial_bias is None else {**shapes, "bias": (1,)}

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "initial_temperature": self.initial_temperature,
            "initial_bias": self.initial_bias,
        }
