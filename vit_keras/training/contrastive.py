"""Losses of two towers: every example is compared with every other of the global batch."""

from __future__ import annotations

import tensorflow as tf

from vit_keras.training import replica


def _own_columns(batch: int, global_batch: int) -> tf.Tensor:
    """Which column of the gathered batch each own row pairs with: (batch, global) one-hot."""
    return tf.one_hot(tf.range(batch) + replica.replica_id() * batch, global_batch)


def softmax_contrastive(
    image_embeddings: tf.Tensor, text_embeddings: tf.Tensor, scale: tf.Tensor
) -> tf.Tensor:
    """The symmetric InfoNCE of CLIP (arXiv 2103.00020, figure 3), one number an own pair.

    Args:
      image_embeddings: (batch, width) of this replica, of length 1.
      text_embeddings: likewise.
      scale: exp of the learned log temperature, a scalar.
    """
    image_embeddings = tf.cast(image_embeddings, tf.float32)
    text_embeddings = tf.cast(text_embeddings, tf.float32)
    all_images, all_texts = (
        replica.gather_over_replicas(image_embeddings),
        replica.gather_over_replicas(text_embeddings),
    )
    image_logits = scale * tf.matmul(image_embeddings, all_texts, transpose_b=True)
    text_logits = scale * tf.matmul(text_embeddings, all_images, transpose_b=True)
    pairs = _own_columns(tf.shape(image_logits)[0], tf.shape(image_logits)[1])
    return 0.5 * (
        tf.nn.softmax_cross_entropy_with_logits(pairs, image_logits)
        + tf.nn.softmax_cross_entropy_with_logits(pairs, text_logits)
    )


def sigmoid_contrastive(
    image_embeddings: tf.Tensor, text_embeddings: tf.Tensor, scale: tf.Tensor, bias: tf.Tensor
) -> tf.Tensor:
    """The pairwise sigmoid loss of SigLIP (arXiv 2303.15343, algorithm 1), one number an own image.

    `-sum over all texts of log sigmoid(z * (scale * image·text + bias))`, z = 1 for the image's
    own text, else -1. Arguments as in `softmax_contrastive`; `bias` is a learned scalar.
    """
    image_embeddings = tf.cast(image_embeddings, tf.float32)
    all_texts = replica.gather_over_replicas(tf.cast(text_embeddings, tf.float32))
    logits = scale * tf.matmul(image_embeddings, all_texts, transpose_b=True) + bias
    signs = 2.0 * _own_columns(tf.shape(logits)[0], tf.shape(logits)[1]) - 1.0
    return -tf.reduce_sum(tf.math.log_sigmoid(signs * logits), axis=-1)
