"""The text beside an image: a caption of the data set, or a sentence with the class's name."""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

# Several captions of an image travel as one string, so that every example has the same shape.
_SEPARATOR = "\0"

Tokenizer = Callable[[Sequence[str | bytes]], np.ndarray]


def joined(texts: tf.Tensor) -> tf.Tensor:
    """The captions of an image, a string or several, as one scalar string."""
    return tf.strings.reduce_join(tf.reshape(texts, [-1]), separator=_SEPARATOR)


class Captions:
    """Makes the token numbers that go with an image.

    One caption of several, or one template of several, is drawn with the example's own seed.
    Sentences with class names are tokenized once, here. Captions of the data set are tokenized
    batch by batch, by Python code in this process: the controller of a TPU pod can't send that to
    the other hosts, which therefore need captions that are int32 tokens already.

    Args:
        source: if it has captions, their texts are "text" in its raw examples (see
            `sources.base`): strings from `joined`, or int32 token numbers (length,).
        tokenizer: from texts to int32 (texts, length).
        templates: sentences with one {} for the class's name, for a source without captions.

    Attributes:
        class_tokens: int32 (classes, templates, length); None where the source has captions.

    Raises:
        ValueError: for a template without exactly one {}.
    """

    def __init__(self, source, tokenizer: Tokenizer, templates: Sequence[str]):
        self._tokenizer = tokenizer
        self._length = np.asarray(tokenizer([""])).shape[-1]
        self.class_tokens = None
        if source.text_feature is None:
            self.class_tokens = class_tokens(source.class_names, templates, tokenizer)

    @tf.autograph.experimental.do_not_convert  # which takes a bound method for a function
    def of_example(self, raw: dict[str, tf.Tensor], seed: tf.Tensor) -> tf.Tensor:
        """The text of a raw example: token numbers, or a string for `tokenized`."""
        # A seed of its own: the operations of the pipeline use those that follow the example's.
        seed = tf.stack([seed[0] - 1, seed[1]])
        if self.class_tokens is not None:
            tokens = tf.constant(self.class_tokens)[raw["label"]]
            return tokens[_draw(tf.shape(tokens)[0], seed)]
        if raw["text"].dtype != tf.string:
            return tf.ensure_shape(raw["text"], [self._length])
        captions = tf.strings.split(raw["text"], _SEPARATOR)
        return captions[_draw(tf.shape(captions)[0], seed)]

    def tokenized(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """A batch whose "text" is int32 (batch, length), whatever it was."""
        text = batch["text"]
        if text.dtype != tf.string:
            return batch
        tokens = tf.numpy_function(self._tokenizer, [text], tf.int32)
        return {**batch, "text": tf.ensure_shape(tokens, [text.shape[0], self._length])}


def class_tokens(
    class_names: Sequence[str], templates: Sequence[str], tokenizer: Tokenizer
) -> np.ndarray:
    """Every template with every class's name, int32 (classes, templates, length).

    Raises:
        ValueError: for a template without exactly one {}, or none.
    """
    if isinstance(templates, str) or not templates:
        raise ValueError(
            f"templates is {templates!r}; expected a list of texts with one {{}} each."
        )
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"A template is {template!r}; expected a text with one {{}}.")
    texts = [template.format(name) for name in class_names for template in templates]
    tokens = np.asarray(tokenizer(texts), np.int32)
    return tokens.reshape(len(class_names), len(templates), -1)


def _draw(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed, 0, count, tf.int32)
