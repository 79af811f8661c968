"""Names of the classes that a checkpoint or a data set numbers.

ImageNet's names come with the package (WordNet's lemmas, see `class_names_license.txt`), in the
order of the published checkpoints' heads. Everything else is asked of TensorFlow Datasets, which
ships names with most builders, so nothing is downloaded.
"""

from __future__ import annotations

import difflib
import functools
import gzip
import importlib.resources
import re

_FILES = {
    "imagenet2012": "class_names_imagenet2012.txt",
    "imagenet21k": "class_names_imagenet21k.txt.gz",
}
_SYNSET = re.compile(r"n\d{8}")


@functools.cache
def _shipped(name: str) -> dict[str, str]:
    """WordNet id -> lemmas of a shipped list, in the order of the classes."""
    # TensorFlow isn't needed here, and a zipped installation works too: hence importlib.resources.
    content = importlib.resources.files(__package__).joinpath(_FILES[name]).read_bytes()
    text = (gzip.decompress(content) if _FILES[name].endswith(".gz") else content).decode("utf-8")
    return dict(line.split("\t") for line in text.splitlines())


def synsets(name: str) -> list[str]:
    """The WordNet ids ("n01440764") of "imagenet2012"'s or "imagenet21k"'s classes, in order.

    Raises:
      ValueError: for another name.
    """
    if name not in _FILES:
        raise ValueError(f"name is {name!r}; WordNet ids are known of {', '.join(_FILES)}.")
    return list(_shipped(name))


def class_names(name: str, data_dir: str | None = None) -> list[str]:
    """The names of a data set's classes, in the order of their numbers.

    Args:
      name: "imagenet2012" (1,000 classes: ImageNet-1k), "imagenet21k" (21,843 classes), or a TFDS
        data set, also as "name/config". ImageNet's names are WordNet's lemmas, such as
        "tench, Tinca tinca"; TFDS data sets labelled by WordNet ids (`imagenet_v2`, `imagenette`)
        get these too.
      data_dir: where TFDS keeps prepared data, should the builder need it.

    Returns:
      A list of as many strings as there are classes. They needn't be distinct: two ImageNet
      classes are called "crane", and so they stand.

    Raises:
      ValueError: when there is no such data set (with the nearest name), or it has no class label,
        or its builder knows the number of the classes only, not their names.
    """
    if name in _FILES:
        return list(_shipped(name).values())
    names = _tfds_names(name, data_dir)
    if all(_SYNSET.fullmatch(label) for label in names):
        lemmas = _shipped("imagenet21k") | _shipped("imagenet2012")
        names = [lemmas.get(label, label) for label in names]
    return names


def _tfds_names(name: str, data_dir: str | None) -> list[str]:
    import tensorflow_datasets as tfds  # slow to import, and not needed for the shipped lists

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.registered.DatasetNotFoundError, ValueError) as error:  # unknown, or no name
        known = [*_FILES, *tfds.list_builders(with_community_datasets=False)]
        near = difflib.get_close_matches(name, known, n=3)
        hint = f" Near it: {', '.join(near)}." if near else ""
        raise ValueError(
            f"name is {name!r}; expected {', '.join(_FILES)} or a TFDS data set.{hint}"
        ) from error
    features = builder.info.features
    labels = {
        key: feature
        for key, feature in features.items()
        if isinstance(feature, tfds.features.ClassLabel)
    }
    if not labels:
        raise ValueError(
            f"name is {name!r}; that data set has no class label: its features are "
            f"{', '.join(features)}."
        )
    key = "label" if "label" in labels else next(iter(labels))
    feature = labels[key]
    # A ClassLabel made with num_classes alone answers "0", "1", ... when asked for names.
    if getattr(feature, "_int2str", feature.names) is None:
        raise ValueError(
            f"name is {name!r}; its builder says that there are {feature.num_classes} classes, but "
            "not what they are called. Prepare the data set first if its names come with the data "
            "(and give data_dir), or pass your own list of names."
        )
    return list(feature.names)
