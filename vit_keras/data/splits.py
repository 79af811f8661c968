"""Splits as TFDS writes them: `train`, `train[:98%]`, `train[10:20]+test`, `even_splits`."""

from collections.abc import Mapping, Sequence

import tensorflow_datasets as tfds
from tensorflow_datasets.core.splits import AbstractSplit

from vit_keras.data.suggestions import unknown_name

# A split's name, a TFDS expression, or an object that TFDS's own split functions return.
Split = str | AbstractSplit


def resolve_split(
    split: Split, shard_lengths: Mapping[str, Sequence[int]]
) -> list[tuple[str, int, int]]:
    """Turns a split into ranges of examples.

    Args:
        split: see https://www.tensorflow.org/datasets/splits.
        shard_lengths: for each split of the source the number of examples in each of its files.

    Returns:
        (split name, first example, one past the last example), in order.

    Raises:
        ValueError: for an unknown or malformed split, or one without examples.
    """
    infos = {
        name: tfds.core.SplitInfo(name=name, shard_lengths=list(lengths), num_bytes=0)
        for name, lengths in shard_lengths.items()
    }
    if isinstance(split, str):
        names = [part.split("[")[0].strip() for part in split.split("+")]
        for name in names:
            if name not in infos and name != "all":
                raise ValueError(unknown_name("split", name, infos))
    try:
        absolute = AbstractSplit.from_spec(split).to_absolute(infos)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise ValueError(
            f"Cannot understand the split {split!r}: {error}. Expected for instance 'train', "
            "'train[:98%]' or 'train[:1000]+test'."
        ) from error
    ranges = []
    for part in absolute:
        stop = infos[part.splitname].num_examples if part.to is None else part.to
        ranges.append((part.splitname, part.from_ or 0, stop))
    if all(stop <= start for _, start, stop in ranges):
        raise ValueError(f"The split {split!r} is empty: it resolves to {ranges}.")
    return [part for part in ranges if part[2] > part[1]]
