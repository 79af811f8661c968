"""Losses, one float32 number an example; the train step averages over the global batch."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from vit_keras.names import unknown_name

Loss = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def softmax_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`-sum(labels * log_softmax(logits))`, (batch, classes) twice -> (batch,)."""
    return -tf.reduce_sum(labels * tf.nn.log_softmax(tf.cast(logits, tf.float32)), axis=-1)


def sigmoid_cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Binary cross-entropies summed over the classes, (batch, classes) twice -> (batch,)."""
    logits = tf.cast(logits, tf.float32)
    entropies = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(entropies, axis=-1)


LOSSES = {"softmax": softmax_cross_entropy, "sigmoid": sigmoid_cross_entropy}


def get_loss(name: str) -> Loss:
    """The loss called `name`.

    Raises:
      ValueError: for a name that is not in `LOSSES`.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


def soft_labels(labels: tf.Tensor, num_classes: int, label_smoothing: float = 0.0) -> tf.Tensor:
    """Labels as float32 (batch, classes), from those or from integers (batch,).

    Smoothing mixes in the uniform distribution (arXiv 1512.00567, section 7).
    """
    if labels.shape.rank == 1:
        labels = tf.one_hot(labels, num_classes)
    labels = tf.cast(labels, tf.float32)
    return labels * (1.0 - label_smoothing) + label_smoothing / num_classes


def distillation(
    logits: tf.Tensor, teacher_logits: tf.Tensor, temperature: float = 1.0
) -> tf.Tensor:
    """KL(teacher || student) of the softened distributions, (batch, classes) twice -> (batch,).

    arXiv 2106.05237, section 2. No factor temperature² (Adam doesn't notice; SGD's rate does).
    """
    log_student = tf.nn.log_softmax(tf.cast(logits, tf.float32) / temperature)
    log_teacher = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    return tf.reduce_sum(tf.exp(log_teacher) * (log_teacher - log_student), axis=-1)
