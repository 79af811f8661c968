"""The block's MLP."""

from __future__ import annotations

import keras
import tensorflow as tf

from vit_keras.layers import products
from vit_keras.layers.stateless_dropout import StatelessDropout


@keras.saving.register_keras_serializable(package="vit_keras")
class MlpBlock(keras.layers.Layer):
    """Dense, gelu, dropout, Dense, dropout (arXiv 2010.11929, equation 3).

    The gelu is the tanh approximation that all published JAX checkpoints were trained with; some
    PyTorch ones were trained with the exact one.

    Args:
      mlp_dim: width between the two Dense.
      dropout: rate of both dropouts.
      kernel_initializer: a Keras initializer's name, of both kernels.
      approximate_gelu: whether the gelu is the tanh approximation.
    """

    def __init__(
        self,
        mlp_dim: int,
        dropout: float = 0.0,
        kernel_initializer: str = "glorot_uniform",
        approximate_gelu: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.mlp_dim = mlp_dim
        self.kernel_initializer = kernel_initializer
        self.approximate_gelu = approximate_gelu
        self.hidden_dropout = StatelessDropout(
            dropout, name="hidden_dropout", dtype=kwargs.get("dtype")
        )
        self.output_dropout = StatelessDropout(
            dropout, name="output_dropout", dtype=kwargs.get("dtype")
        )

    def build(self, input_shape):
        """Makes the kernels (D, mlp_dim) and (mlp_dim, D), and the biases."""
        width = input_shape[-1]

        def dense(index, inputs, outputs):
            kernel = self.add_weight(
                name=f"dense_{index}_kernel",
                shape=(inputs, outputs),
                initializer=keras.initializers.get(self.kernel_initializer),
            )
            bias = self.add_weight(
                name=f"dense_{index}_bias",
                shape=(outputs,),
                initializer=keras.initializers.RandomNormal(stddev=1e-6),
            )
            return kernel, bias

        self.dense_0_kernel, self.dense_0_bias = dense(0, width, self.mlp_dim)
        self.dense_1_kernel, self.dense_1_bias = dense(1, self.mlp_dim, width)
        super().build(input_shape)

    def call(self, tokens, training=None):
        """`tokens` (batch, n, D); the same shape comes back."""

        def gelu(x):
            return tf.nn.gelu(x, approximate=self.approximate_gelu)

        equation = "btd,dm->btm"
        x = products.dense(equation, tokens, self.dense_0_kernel, self.dense_0_bias, gelu)
        x = self.hidden_dropout(x, training=training)
        x = products.dense(equation, x, self.dense_1_kernel, self.dense_1_bias)
        return self.output_dropout(x, training=training)

    def compute_output_shape(self, input_shape):
        """The input's shape."""
        return input_shape

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "mlp_dim": self.mlp_dim,
            "dropout": self.hidden_dropout.rate,
            "kernel_initializer": self.kernel_initializer,
            "approximate_gelu": self.approximate_gelu,
        }
