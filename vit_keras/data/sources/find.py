"""One entry for all kinds of source."""

import os
from collections.abc import Mapping

import tensorflow as tf
import tensorflow_datasets as tfds

from vit_keras.data.sources.base import Source
from vit_keras.data.sources.folder import FolderSource
from vit_keras.data.sources.in_memory import DatasetSource
from vit_keras.data.sources.tfds_source import TfdsSource, tfds_builder
from vit_keras.data.sources.tfrecords import INDEX_FILE, TFRecordSource


def get_source(
    dataset: str | tfds.core.DatasetBuilder | tf.data.Dataset | Mapping[str, tf.data.Dataset],
    data_dir: str | None = None,
    *,
    manual_dir: str | None = None,
    class_names: list[str] | None = None,
    on_bad_image: str = "error",
    text_feature: str | None = None,
) -> Source:
    """Finds a data set.

    Args:
        dataset: one of
            - a TFDS name (`cifar10`, `name/config`, `name:version`), prepared if it isn't yet, or
              a TFDS builder, or the folder of a prepared TFDS data set;
            - a folder `{train,test}/<class>/*.jpg|png`;
            - a folder of TFRecords that `tools/make_tfrecords.py` wrote;
            - a `tf.data.Dataset` of single examples, or a mapping of splits to such datasets.
            Folders may be on `gs://`.
        data_dir: where TFDS keeps its data sets (default: TFDS's own).
        manual_dir: where TFDS finds files downloaded by hand.
        class_names: only for a `tf.data.Dataset`.
        on_bad_image: "error" stops at the first file or label that cannot be used and names it;
            "skip" goes on without it and lists it in `source.bad_images`.
        text_feature: of a TFDS data set, the feature that holds captions, such as "captions/text";
            then there needn't be a label.

    Raises:
        ValueError: if nothing of that name exists, or what exists isn't a usable data set.
    """
    tfds_options = {
        "manual_dir": manual_dir,
        "on_bad_image": on_bad_image,
        "text_feature": text_feature,
    }
    if isinstance(dataset, (tf.data.Dataset, Mapping, tfds.folder_dataset.ImageFolder)):
        _refuse_text(text_feature, dataset)
    if isinstance(dataset, (tf.data.Dataset, Mapping)):
        return DatasetSource(dataset, class_names=class_names, on_bad_image=on_bad_image)
    if isinstance(dataset, tfds.folder_dataset.ImageFolder):
        return FolderSource(str(dataset.data_path), on_bad_image=on_bad_image)
    if isinstance(dataset, tfds.core.DatasetBuilder):
        return TfdsSource(dataset, **tfds_options)
    if not isinstance(dataset, (str, os.PathLike)):
        raise ValueError(
            "dataset must be a name, a folder, a TFDS builder or a tf.data.Dataset, got "
            f"{dataset!r}."
        )
    path = os.path.expanduser(os.fspath(dataset))
    looks_like_path = path.startswith((".", os.sep)) or "://" in path
    if tf.io.gfile.isdir(path):
        if tf.io.gfile.exists(os.path.join(path, INDEX_FILE)):
            _refuse_text(text_feature, path)
            return TFRecordSource(path, on_bad_image=on_bad_image)
        if tf.io.gfile.exists(os.path.join(path, "dataset_info.json")):
            builder = tfds.builder_from_directory(path)
            return TfdsSource(builder, **tfds_options)
        # A bare name that happens to be a folder here may still mean the TFDS data set.
        if looks_like_path or tf.io.gfile.isdir(os.path.join(path, "train")):
            _refuse_text(text_feature, path)
            return FolderSource(path, on_bad_image=on_bad_image)
    elif looks_like_path:
        raise ValueError(f"No such folder: {path!r}.")
    builder = tfds_builder(path, data_dir)
    return TfdsSource(builder, **tfds_options)


def _refuse_text(text_feature: str | None, dataset: object) -> None:
    if text_feature is not None:
        raise ValueError(
            f"text_feature is {text_feature!r}, but {dataset!r} isn't a TFDS data set, which alone "
            "have captions."
        )
