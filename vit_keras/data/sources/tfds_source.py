"""TensorFlow Datasets: prepared on demand, read as the records that TFDS wrote."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_keras.data import sklearn_digits  # noqa: F401  registers the builder
from vit_keras.data.captions import joined
from vit_keras.data.sources.base import Source
from vit_keras.data.sources.record_files import FileRecords, mean_record_bytes
from vit_keras.data.suggestions import unknown_name


class TfdsSource(Source):
    """A TFDS data set with one image and one class label (or captions) per example.

    Images are handed on encoded, as they are in the files; captions as `captions.Captions` has it.

    Args:
        builder: of a data set that is prepared, or can be.
        manual_dir: where files lie that TFDS asks its user to download by hand.
        text_feature: the feature that holds captions, such as "captions/text": a string, several,
            or int32 tokens of a fixed number. Without a class label every label is 0 then.

    Raises:
        ValueError: if the data set isn't an image classification data set, or isn't stored as
            TFRecords.
    """

    def __init__(
        self,
        builder: tfds.core.DatasetBuilder,
        *,
        manual_dir: str | None = None,
        on_bad_image: str = "error",
        text_feature: str | None = None,
    ):
        name = builder.info.full_name
        if not builder.is_prepared():
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual_dir, try_download_gcs=False
                )
            )
        self._features = builder.info.features
        self._image_key = _find_feature(builder, tfds.features.Image, 0)
        self.text_feature = text_feature
        if text_feature is not None:
            self.text_is_tokens = _check_text(builder, text_feature) == np.int32
        self._label_key = _find_feature(
            builder, tfds.features.ClassLabel, 1, optional=text_feature is not None
        )
        file_format = builder.info.file_format
        if file_format is not None and file_format.value != "tfrecord":
            raise ValueError(
                f"{name} is stored as {file_format.value}; prepare it with file_format='tfrecord'."
            )
        names = ["any"] if self._label_key is None else self._features[self._label_key].names
        super().__init__(name, list(names), on_bad_image)
        self._splits = builder.info.splits

    @property
    def shard_lengths(self) -> dict[str, list[int]]:
        """Split name -> number of examples in each of its files."""
        return {name: list(self._splits[name].shard_lengths) for name in self._splits}

    def _range_records(self, ranges: list[tuple[str, int, int]]) -> FileRecords:
        runs = []
        for split, start, stop in ranges:
            for instruction in self._splits[f"{split}[{start}:{stop}]"].file_instructions:
                runs.append((instruction.filename, instruction.skip, instruction.take))
        names = sorted({split for split, _, _ in ranges})
        files = [str(file) for name in names for file in self._splits[name].filepaths]
        total = sum(self._splits[name].num_examples for name in names)
        return FileRecords(runs, self._parse, mean_record_bytes(files, total))

    def _parse(self, record: tf.Tensor) -> dict[str, tf.Tensor]:
        wanted = {self._image_key: True}
        if self._label_key is not None:
            wanted[self._label_key] = True
        path = (self.text_feature or "").split("/")
        if self.text_feature is not None:
            wanted[path[0]] = {path[1]: True} if path[1:] else True
        features = tfds.decode.PartialDecoding(wanted).extract_features(self._features)
        example = features.deserialize_example(
            record, decoders={self._image_key: tfds.decode.SkipDecoding()}
        )
        label = tf.constant(0) if self._label_key is None else example[self._label_key]
        parsed = {"image": example[self._image_key], "label": tf.cast(label, tf.int64)}
        if self.text_feature is not None:
            text = example[path[0]][path[1]] if path[1:] else example[path[0]]
            parsed["text"] = joined(text) if text.dtype == tf.string else tf.cast(text, tf.int32)
        return parsed


def tfds_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Finds a builder by name.

    Raises:
        ValueError: if TFDS knows no such data set; names the nearest.
    """
    try:
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(
            unknown_name("data set", name, tfds.list_builders(with_community_datasets=False))
            if len(name) < 40
            else f"Unknown data set {name!r}."
        ) from error


def _check_text(builder: tfds.core.DatasetBuilder, text_feature: str) -> type:
    """The type of a feature, at most one level down.

    Raises:
        ValueError: if there is none of that name, or it isn't text.
    """
    have = {}
    for key, feature in builder.info.features.items():
        inner = getattr(feature, "feature", feature)  # of a sequence
        if isinstance(inner, tfds.features.FeaturesDict):
            have |= {f"{key}/{name}": part for name, part in inner.items()}
        else:
            have[key] = feature
    texts = [
        name
        for name, feature in have.items()
        if getattr(feature, "feature", feature).np_dtype in (np.str_, np.object_, np.int32)
        and not isinstance(feature, tfds.features.Image)
    ]
    if text_feature not in texts:
        raise ValueError(
            f"{builder.info.full_name}: {unknown_name('text feature', text_feature, texts)}"
        )
    return getattr(have[text_feature], "feature", have[text_feature]).np_dtype


def _find_feature(
    builder: tfds.core.DatasetBuilder, kind: type, supervised_index: int, optional: bool = False
) -> str | None:
    features = builder.info.features
    keys = builder.info.supervised_keys
    key = keys[supervised_index] if keys else None
    if key in features and isinstance(features[key], kind):
        return key
    candidates = [key for key in features if isinstance(features[key], kind)]
    if optional and not candidates:
        return None
    if len(candidates) != 1:
        raise ValueError(
            f"{builder.info.full_name} must have exactly one {kind.__name__} feature, or say by "
            f"supervised_keys which to use; it has {candidates}."
        )
    return candidates[0]
