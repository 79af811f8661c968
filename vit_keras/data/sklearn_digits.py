"""scikit-learn's handwritten digits as a TFDS data set: real images that need no download."""

import numpy as np
import tensorflow_datasets as tfds

_TEST_FRACTION = 0.25


class DigitsConfig(tfds.core.BuilderConfig):
    """Which of the ten digits the data set has; labels count from 0 within them."""

    def __init__(self, *, digits: range, **kwargs):
        super().__init__(version=tfds.core.Version("1.0.0"), **kwargs)
        self.digits = digits


class SklearnDigits(tfds.core.GeneratorBasedBuilder):
    """1,797 handwritten digits of 8x8 pixels (NIST, by way of UCI and scikit-learn).

    The split is fixed and stratified: of each digit, a quarter is for testing.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        DigitsConfig(name="all", description="All ten digits.", digits=range(10)),
        DigitsConfig(name="digits_0_4", description="Digits 0 to 4.", digits=range(5)),
        DigitsConfig(name="digits_5_9", description="Digits 5 to 9.", digits=range(5, 10)),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Handwritten digits, 8x8 pixels of 17 grey levels stretched to 0..255.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(
                        names=[str(digit) for digit in self.builder_config.digits]
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        del dl_manager  # Nothing to download.
        from sklearn.datasets import load_digits  # Only needed to prepare the data set.

        images, digits = load_digits(return_X_y=True)
        images = np.round(images.reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
        images = np.repeat(images, 3, axis=-1)
        test = np.zeros(len(digits), bool)
        for digit in range(10):
            members = np.flatnonzero(digits == digit)
            order = np.random.RandomState(digit).permutation(len(members))
            test[members[order[: round(len(members) * _TEST_FRACTION)]]] = True
        chosen = np.isin(digits, self.builder_config.digits)
        return {
            "train": self._generate_examples(images, digits, chosen & ~test),
            "test": self._generate_examples(images, digits, chosen & test),
        }

    def _generate_examples(self, images, digits, members):
        for index in np.flatnonzero(members):
            yield int(index), {"image": images[index], "label": str(digits[index])}
