"""What the pipeline asks of a source of examples."""

import abc

import numpy as np
import tensorflow as tf

from vit_keras.data.bad_images import BadImages
from vit_keras.data.splits import Split, resolve_split
from vit_keras.data.suggestions import unknown_name


class Records(abc.ABC):
    """The raw examples of one split, numbered from 0 in the order in which they are stored.

    A raw example is a dictionary of
        "image": scalar string, the encoded file; or a decoded (height, width, channels) array,
        "label": scalar int64,
        "id": scalar int64, its number in the split,
        "file": scalar string that tells a person where it is,
        "text": only if the source has captions, see `captions.Captions`.
    What could not be read at all has the image "" and the label -1.

    Attributes:
        num_examples: how many there are.
        num_files: how many parts can be read independently of each other.
        bytes_per_example: mean size of a raw example in memory, to estimate buffers.
        random_access: whether `fetch` works.
    """

    num_examples: int
    num_files: int
    bytes_per_example: float
    random_access: bool = False

    @abc.abstractmethod
    def segments(self, start: int, stop: int) -> np.ndarray:
        """Covers the examples [start, stop) by runs that are read in sequence.

        Returns:
            int64 `(runs, 4)`: file, examples to skip in it, examples to take, id of the first.
        """

    @abc.abstractmethod
    def read_segment(self, segment: tf.Tensor) -> tf.data.Dataset:
        """The raw examples of one row of `segments`, always exactly as many as it takes."""

    def fetch(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """One raw example by its id; only if `random_access`."""
        raise NotImplementedError

    def file_name(self, index: tf.Tensor) -> tf.Tensor:
        """The "file" of one example without reading it; only if `random_access`."""
        raise NotImplementedError


class Source(abc.ABC):
    """A labelled image data set with named splits.

    Attributes:
        name: for messages and logs.
        class_names: one name per class, in the order of the labels.
        bad_images: what pipelines over this source had to skip.
        on_bad_image: "error" or "skip".
        text_feature: the feature that holds captions; None: the source has none.
        text_is_tokens: whether they are token numbers already.
    """

    text_feature: str | None = None
    text_is_tokens: bool = False

    def __init__(self, name: str, class_names: list[str], on_bad_image: str = "error"):
        if on_bad_image not in ("error", "skip"):
            raise ValueError(unknown_name("on_bad_image", on_bad_image, ("error", "skip")))
        self.name = name
        self.class_names = class_names
        self.on_bad_image = on_bad_image
        self.bad_images = BadImages()

    @property
    def num_classes(self) -> int:
        """How many classes labels are drawn from."""
        return len(self.class_names)

    @property
    @abc.abstractmethod
    def shard_lengths(self) -> dict[str, list[int]]:
        """Split name -> number of examples in each of its files."""

    @abc.abstractmethod
    def _range_records(self, ranges: list[tuple[str, int, int]]) -> Records:
        """The examples of some (split, start, stop) ranges, one after the other."""

    def records(self, split: Split) -> Records:
        """The raw examples of `split`.

        Raises:
            ValueError: if the split is unknown, malformed or empty.
        """
        try:
            return self._range_records(resolve_split(split, self.shard_lengths))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    def num_examples(self, split: Split) -> int:
        """Number of examples in `split`, which may be an expression as `train[:98%]`."""
        return self.records(split).num_examples
