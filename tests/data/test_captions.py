"""Texts beside images: of the data set, or made of the class's name."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from vit_keras import data
from vit_keras.data.captions import Captions, class_tokens

PIPELINE = "decode|resize(8)"
WORDS = ["", *["a", "one", "two", "three", "zero", "drawn", "digit", "of", "the"]]
NAMES = ["zero", "one", "two", "three"]


def tokenizer(texts):
    """The numbers of at most four known words."""
    texts = [text.decode() if isinstance(text, bytes) else text for text in texts]
    rows = [[WORDS.index(word) for word in text.split()][:4] for text in texts]
    return np.array([row + [0] * (4 - len(row)) for row in rows], np.int32)


class CaptionedDigits(tfds.core.GeneratorBasedBuilder):
    """Digits with captions as coco_captions has them, one text, and tokens; no labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        captions = {"text": tfds.features.Text(), "id": tfds.features.Scalar(np.int64)}
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                    "captions": tfds.features.Sequence(captions),
                    "title": tfds.features.Text(),
                    "tokens": tfds.features.Tensor(shape=(4,), dtype=np.int32),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 24), "test": self._generate_examples(24, 35)}

    def _generate_examples(self, first, last):
        images, digits = load_digits(n_class=4, return_X_y=True)
        for i in range(first, last):
            image = np.repeat(images[i].reshape(8, 8, 1) * 15, 3, -1).astype(np.uint8)
            name = NAMES[digits[i]]
            yield (
                i,
                {
                    "image": image,
                    "captions": [{"text": f"a {name}", "id": i}, {"text": f"the {name}", "id": -i}],
                    "title": f"drawn {name}",
                    "tokens": [digits[i], 1, 2, 3],
                },
            )


@pytest.fixture(scope="module")
def builder(tmp_path_factory):
    made = CaptionedDigits(data_dir=str(tmp_path_factory.mktemp("tfds")))
    made.download_and_prepare()
    return made


def captioned(builder, feature):
    source = data.get_source(builder, text_feature=feature)
    return source, Captions(source, tokenizer, ["a {}"])


@pytest.mark.parametrize(
    ("feature", "first_words"),
    [("captions/text", {"a", "the"}), ("title", {"drawn"})],
)
def test_captions_of_the_data_set(builder, feature, first_words):
    source, captions = captioned(builder, feature)
    assert source.num_classes == 1
    batches = data.train_dataset(source, "train", PIPELINE, 8, captions=captions, seed=3)
    assert batches.element_spec["text"] == tf.TensorSpec((8, 4), tf.int32)
    texts = np.concatenate([batch["text"] for batch in batches.take(6)])
    assert {WORDS[row[0]] for row in texts} == first_words
    assert {WORDS[row[1]] for row in texts} <= set(NAMES)
    again = data.train_dataset(
        source, "train", PIPELINE, 8, captions=captions, seed=3, start_batch=4
    )
    np.testing.assert_array_equal(next(iter(again))["text"], texts[32:40])


def test_each_image_has_its_own_caption(builder):
    source, captions = captioned(builder, "title")
    pixels, digits = load_digits(n_class=4, return_X_y=True)
    for batch in data.train_dataset(source, "train", PIPELINE, 8, captions=captions).take(3):
        for image, text in zip(batch["image"].numpy(), batch["text"].numpy(), strict=True):
            known = np.flatnonzero((pixels.reshape(-1, 8, 8) * 15 == image[..., 0]).all((1, 2)))
            assert WORDS[text[1]] in [NAMES[digits[i]] for i in known]


def test_tokens_of_the_data_set(builder):
    source, captions = captioned(builder, "tokens")
    assert source.text_is_tokens
    batches = list(data.eval_dataset(source, "test", PIPELINE, 8, captions=captions))
    texts = np.concatenate([batch["text"][batch["mask"] > 0] for batch in batches])
    assert texts.shape == (11, 4)
    assert texts[:, 1:].tolist() == [[1, 2, 3]] * 11


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        ("captions/txt", "Did you mean 'captions/text'"),
        ("image", "text feature 'image'.*Valid: captions/text"),
    ],
)
def test_features_that_hold_no_text(builder, feature, message):
    with pytest.raises(ValueError, match=message):
        data.get_source(builder, text_feature=feature)


def test_only_tfds_has_captions(tmp_path):
    with pytest.raises(ValueError, match="isn't a TFDS data set"):
        data.get_source(tf.data.Dataset.range(3), text_feature="text")


def test_captions_of_class_names():
    dataset = tf.data.Dataset.from_tensor_slices(
        (np.zeros((40, 8, 8, 3), np.uint8), np.arange(40) % 4)
    )
    source = data.get_source(dataset, class_names=NAMES)
    captions = Captions(source, tokenizer, ["a {}", "the digit {}"])
    batches = data.train_dataset(source, "train", PIPELINE, 8, captions=captions)
    seen = set()
    for batch in batches.take(10):
        for label, text in zip(batch["label"].numpy(), batch["text"].numpy(), strict=True):
            seen.add(tuple(text[:2]))
            assert text.tolist() in captions.class_tokens[label].tolist()
    assert len({row[0] for row in seen}) == 2  # both templates


@pytest.mark.parametrize(
    ("templates", "message"),
    [([], "templates is"), ("a {}", "templates is"), (["a"], "A template is 'a'")],
)
def test_wrong_templates(templates, message):
    with pytest.raises(ValueError, match=message):
        class_tokens(NAMES, templates, tokenizer)
