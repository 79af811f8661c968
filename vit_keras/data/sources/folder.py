"""A folder of images: `{train,test}/<class>/*.jpg|png`."""

import hashlib
import os

import numpy as np
import tensorflow as tf

from vit_keras.data.sources.base import Records, Source

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp")


class FolderSource(Source):
    """Images in folders named by their class, in folders named by their split.

    Within a split, examples are ordered by a hash of class and file name: the order looks random
    (so that `train[:98%]` holds every class), is the same on every machine, and a new file
    doesn't change the order of the others. Hidden files are ignored.

    Raises:
        ValueError: naming the folder or file, if there is no split, a split without classes, a
            class folder missing from a split or empty, or a file that isn't an image by its
            extension. With `on_bad_image="skip"` such files, and the classes of other splits that
            the training split doesn't have, are left out and listed in `bad_images`.
    """

    def __init__(self, root: str, *, on_bad_image: str = "error"):
        super().__init__(root, [], on_bad_image)
        root = os.path.expanduser(root)
        splits = _folders(root)
        if not splits:
            raise ValueError(
                f"{root}: no split folder in it. Expected {{train,test}}/<class>/*.jpg|png."
            )
        classes = {split: _folders(os.path.join(root, split)) for split in splits}
        self.class_names = self._check_classes(root, classes)
        self._files: dict[str, list[str]] = {}
        self._labels: dict[str, np.ndarray] = {}
        for split in splits:
            examples = []
            for label, class_name in enumerate(self.class_names):
                if class_name in classes[split]:
                    folder = os.path.join(root, split, class_name)
                    examples += [(file, label) for file in self._image_files(folder)]
            examples.sort(key=lambda example: _hash(os.path.relpath(example[0], root)))
            self._files[split] = [file for file, _ in examples]
            self._labels[split] = np.array([label for _, label in examples], np.int64)

    @property
    def shard_lengths(self) -> dict[str, list[int]]:
        """Split name -> number of examples in each of its files."""
        return {split: [len(files)] for split, files in self._files.items()}

    def _range_records(self, ranges: list[tuple[str, int, int]]) -> "FolderRecords":
        files = [file for split, a, b in ranges for file in self._files[split][a:b]]
        labels = np.concatenate([self._labels[split][a:b] for split, a, b in ranges])
        return FolderRecords(files, labels)

    def _check_classes(self, root: str, classes: dict[str, list[str]]) -> list[str]:
        reference = "train" if "train" in classes else next(iter(classes))
        if not classes[reference]:
            raise ValueError(f"{os.path.join(root, reference)}: no class folder in it.")
        for split, names in classes.items():
            extra = sorted(set(names) - set(classes[reference]))
            missing = sorted(set(classes[reference]) - set(names))
            if (extra or missing) and self.on_bad_image == "error":
                raise ValueError(
                    f"{os.path.join(root, split)}: its class folders differ from those of "
                    f"{reference!r}: missing {missing}, unknown {extra}."
                )
            for name in extra:
                self._bad(os.path.join(root, split, name), f"no such class in {reference!r}")
            for name in missing:
                self._bad(os.path.join(root, split, name), "the class folder is missing")
        return sorted(classes[reference])

    def _image_files(self, folder: str) -> list[str]:
        images = []
        for name in sorted(tf.io.gfile.listdir(folder)):
            path = os.path.join(folder, name.rstrip("/"))
            if name.startswith("."):
                continue
            if name.lower().endswith(IMAGE_EXTENSIONS):
                images.append(path)
                continue
            reason = f"not an image by its extension; expected one of {', '.join(IMAGE_EXTENSIONS)}"
            if self.on_bad_image == "error":
                raise ValueError(f"{path}: {reason}.")
            self._bad(path, reason)
        if not images:
            if self.on_bad_image == "error":
                raise ValueError(f"{folder}: the class folder holds no image.")
            self._bad(folder, "the class folder holds no image")
        return images

    def _bad(self, path: str, reason: str) -> None:
        self.bad_images.insert(path, reason)


class FolderRecords(Records):
    """Image files and their labels, readable in any order."""

    random_access = True

    def __init__(self, files: list[str], labels: np.ndarray):
        self._files = tf.constant(files)
        self._labels = tf.constant(labels)
        self.num_examples = len(files)
        self.num_files = len(files)
        sample = files[:: max(1, len(files) // 64)][:64]
        self.bytes_per_example = _mean_size(sample)

    def segments(self, start: int, stop: int) -> np.ndarray:
        """See `Records`."""
        return np.array([(0, start, stop - start, start)], np.int64)

    def read_segment(self, segment: tf.Tensor) -> tf.data.Dataset:
        """See `Records`."""
        return tf.data.Dataset.range(segment[1], segment[1] + segment[2]).map(
            self.fetch, num_parallel_calls=8, deterministic=True
        )

    def fetch(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
        """See `Records`."""
        return {
            "image": tf.io.read_file(self._files[index]),
            "label": self._labels[index],
            "id": tf.cast(index, tf.int64),
            "file": self._files[index],
        }

    def file_name(self, index: tf.Tensor) -> tf.Tensor:
        """See `Records`."""
        return self._files[index]


def _mean_size(files: list[str]) -> float:
    # A file that vanished is an error, or is skipped, when its turn comes.
    sizes = [tf.io.gfile.stat(file).length for file in files if tf.io.gfile.exists(file)]
    return float(np.mean(sizes or [0]))


def _folders(root: str) -> list[str]:
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(root))
    return [
        name
        for name in names
        if not name.startswith(".") and tf.io.gfile.isdir(os.path.join(root, name))
    ]


def _hash(path: str) -> bytes:
    return hashlib.md5(path.replace(os.sep, "/").encode(), usedforsecurity=False).digest()
