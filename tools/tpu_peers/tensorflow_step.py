"""Lowers a training step of another package's ViT: `python tensorflow_step.py JOB.json`.

Imports nothing of this project, because it runs in the environment of the package (which, for the
PyPI package vit-keras, takes this project's name). JOB.json: `peer`, `width`, `depth`, `mlp_dim`,
`num_heads`, `batch` (a replica's), `replicas`, `program` (where the `HloModuleProto` goes).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

IMAGE_SIZE, PATCH_SIZE, CLASSES = 224, 16, 1000
RATE, MOMENTUM, CLIP = 0.03, 0.9, 1.0


def keras_hub(width: int, depth: int, mlp_dim: int, num_heads: int) -> keras.Model:
    """keras-hub's classifier, from its class token; exact gelu, as its layers have it."""
    from keras_hub.models import ViTBackbone, ViTImageClassifier

    backbone = ViTBackbone(
        image_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
        patch_size=PATCH_SIZE,
        num_layers=depth,
        num_heads=num_heads,
        hidden_dim=width,
        mlp_dim=mlp_dim,
    )
    return ViTImageClassifier(backbone, num_classes=CLASSES)


class _TokensWithPositions(keras.layers.Layer):
    """Puts a class token in front and adds positions."""

    def build(self, shape):
        self.token = self.add_weight(name="token", shape=(1, 1, shape[-1]))
        self.positions = self.add_weight(name="positions", shape=(1, shape[1] + 1, shape[-1]))

    def call(self, patches):
        token = tf.cast(tf.convert_to_tensor(self.token), patches.dtype)
        token = tf.repeat(token, tf.shape(patches)[0], axis=0)
        positions = tf.cast(tf.convert_to_tensor(self.positions), patches.dtype)
        return tf.concat([token, patches], axis=1) + positions

    def compute_output_shape(self, shape):
        return (shape[0], shape[1] + 1, shape[2])


def plain_keras(width: int, depth: int, mlp_dim: int, num_heads: int) -> keras.Model:
    """What one writes with Keras' own MultiHeadAttention, Dense and LayerNormalization."""
    layers = keras.layers
    images = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3))
    x = layers.Conv2D(width, PATCH_SIZE, PATCH_SIZE)(images)
    x = _TokensWithPositions()(layers.Reshape((-1, width))(x))
    for _ in range(depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = x + layers.MultiHeadAttention(num_heads, width // num_heads)(y, y)
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(mlp_dim, activation=lambda z: tf.nn.gelu(z, approximate=True))(y)
        x = x + layers.Dense(width)(y)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    logits = layers.Dense(CLASSES, dtype="float32")(x[:, 0])
    return keras.Model(images, logits)


def vit_keras_0_2_0(width: int, depth: int, mlp_dim: int, num_heads: int) -> keras.Model:
    """The PyPI package's model, with its exact gelu; without dropout, unlike `vit_b16()`."""
    from vit_keras import vit

    return vit.build_model(
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        num_layers=depth,
        hidden_size=width,
        num_heads=num_heads,
        name="vit",
        mlp_dim=mlp_dim,
        classes=CLASSES,
        dropout=0.0,
        activation="linear",
        include_top=True,
        representation_size=None,
    )


PEERS = {"keras_hub": keras_hub, "plain_keras": plain_keras, "vit_keras_0_2_0": vit_keras_0_2_0}


def lower(model: keras.Model, batch: int, replicas: int) -> bytes:
    """The step: gradients summed over replicas, clip, SGD with a bfloat16 accumulator."""
    weights = model.trainable_variables
    variables = [weight if isinstance(weight, tf.Variable) else weight.value for weight in weights]
    slots = [tf.Variable(tf.zeros(v.shape, tf.bfloat16)) for v in variables]

    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = tf.cast(model(images, training=True), tf.float32)
            losses = tf.nn.softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_sum(losses) / (batch * replicas)
        gradients = tape.gradient(loss, variables)
        loss, *gradients = [
            tf.raw_ops.CollectiveReduceV2(
                input=tensor,
                group_size=replicas,
                group_key=1,
                instance_key=index,
                ordering_token=[],
                merge_op="Add",
                final_op="Id",
                communication_hint="nccl",
            )
            for index, tensor in enumerate([loss, *gradients])
        ]
        gradients, _ = tf.clip_by_global_norm(gradients, CLIP)
        for variable, slot, gradient in zip(variables, slots, gradients, strict=True):
            momentum = MOMENTUM * tf.cast(slot, tf.float32) + gradient
            slot.assign(tf.cast(momentum, tf.bfloat16))
            variable.assign_sub(RATE * momentum)
        return loss

    compiled = tf.function(step, jit_compile=True, autograph=False)
    specs = (
        tf.TensorSpec((batch, IMAGE_SIZE, IMAGE_SIZE, 3), tf.float32),
        tf.TensorSpec((batch, CLASSES), tf.float32),
    )
    return compiled.experimental_get_compiler_ir(*specs)(stage="hlo_serialized")


def main(path: str) -> None:
    """Does the job described in the file `path`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    model = PEERS[job["peer"]](job["width"], job["depth"], job["mlp_dim"], job["num_heads"])
    Path(job["program"]).write_bytes(lower(model, job["batch"], job["replicas"]))


if __name__ == "__main__":
    main(sys.argv[1])
