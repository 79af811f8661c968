"""Operations on values, labels and keys."""

import tensorflow as tf

from vit_keras.data.registry import register_op
from vit_keras.data.suggestions import unknown_name


@register_op("value_range")
def value_range(vmin=-1, vmax=1, in_min=0, in_max=255.0, clip_values=False):
    """Maps [in_min, in_max] linearly to [vmin, vmax], as float32.

    `in_min` and `in_max` may be lists with one number per channel.
    """

    def apply(image):
        low, high = tf.constant(in_min, tf.float32), tf.constant(in_max, tf.float32)
        result = vmin + (tf.cast(image, tf.float32) - low) / (high - low) * (vmax - vmin)
        return tf.clip_by_value(result, vmin, vmax) if clip_values else result

    return apply


@register_op("cast")
def cast(dtype):
    """Casts to a TensorFlow type, such as "bfloat16"."""
    dtype = tf.as_dtype(dtype)
    return lambda image: tf.cast(image, dtype)


@register_op("onehot", on="example")
def onehot(depth, key="label", key_result=None, multi=True, on=1.0, off=0.0):
    """One-hot (several labels: multi-hot) float32 vector of length `depth`."""

    def apply(example):
        # What we call "label" is "labels" in big_vision.
        name = "label" if key == "labels" and key not in example else key
        if name not in example:
            raise ValueError(unknown_name("key for onehot", key, example))
        vector = tf.one_hot(tf.cast(example[name], tf.int64), depth, on_value=on, off_value=off)
        if multi and vector.shape.rank > 1:
            vector = tf.reduce_max(vector, axis=0)
        return {**example, key_result or name: vector}

    return apply


@register_op("keep", on="example")
def keep(*keys):
    """Keeps only these keys of the example."""
    return lambda example: {key: value for key, value in example.items() if key in keys}


@register_op("drop", on="example")
def drop(*keys):
    """Removes these keys from the example."""
    return lambda example: {key: value for key, value in example.items() if key not in keys}


@register_op("copy", on="example")
def copy(inkey, outkey):
    """Copies one entry of the example to another key."""
    return lambda example: {**example, outkey: example[inkey]}
