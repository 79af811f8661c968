"""Turns a folder of images, {train,test}/<class>/*.jpg|png, into sharded TFRecords.

    python tools/make_tfrecords.py FOLDER OUTPUT [--shards=N] [--on_bad_image=skip]

Every image is decoded on the way. By default the first pass names every image that cannot be read
and nothing is written; with --on_bad_image=skip they are left out and listed. OUTPUT appears,
whole, only when everything is written. The record format is described in vit_keras/data/sources/
tfrecords.py; vit_keras reads OUTPUT as a data set by its path.
"""

import concurrent.futures
import json
import os

import numpy as np
import tensorflow as tf
from absl import app, flags, logging
from tqdm import tqdm

from vit_keras.data.decode import decode_image
from vit_keras.data.sources.folder import FolderSource
from vit_keras.data.sources.tfrecords import INDEX_FILE

_SHARDS = flags.DEFINE_integer(
    "shards", None, "Files per split; default about 100 MB each, but at least 16 if images suffice."
)
_ON_BAD_IMAGE = flags.DEFINE_enum(
    "on_bad_image", "error", ["error", "skip"], "What to do if an image cannot be read."
)
_THREADS = flags.DEFINE_integer("threads", os.cpu_count(), "Images that are checked at a time.")

_SHARD_BYTES = 100 << 20
_MIN_SHARDS = 16


def make_tfrecords(
    folder: str,
    output: str,
    *,
    shards: int | None = None,
    on_bad_image: str = "error",
    threads: int | None = None,
) -> list[tuple[str, str]]:
    """Writes `output` from `folder`.

    Args:
        folder: `{train,test}/<class>/*.jpg|png`.
        output: folder that must not exist yet.
        shards: files per split, or None for a number that suits the size.
        on_bad_image: "error" or "skip".
        threads: images that are checked at a time.

    Returns:
        (file, reason) of each image that was left out.

    Raises:
        ValueError: if `output` exists, or images cannot be read; names them all.
    """
    if tf.io.gfile.exists(output):
        raise ValueError(f"{output} exists already; nothing was written.")
    if shards is not None and shards < 1:
        raise ValueError(f"shards must be positive, got {shards}.")
    source = FolderSource(folder, on_bad_image=on_bad_image)
    bad = source.bad_images.list()
    temporary = f"{output.rstrip('/')}.incomplete-{os.getpid()}"
    tf.io.gfile.makedirs(temporary)
    try:
        index = {"format": 1, "class_names": source.class_names, "splits": {}}
        for split in source.shard_lengths:
            index["splits"][split] = _write_split(source, split, temporary, shards, threads, bad)
        if bad and on_bad_image == "error":
            listed = "\n".join(f"  {file}: {reason}" for file, reason in bad)
            raise ValueError(f"{len(bad)} images cannot be used; nothing was written:\n{listed}")
        with tf.io.gfile.GFile(os.path.join(temporary, INDEX_FILE), "w") as file:
            json.dump(index, file, indent=1)
        tf.io.gfile.rename(temporary, output)
    except BaseException:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)
        raise
    return bad


def _write_split(source, split, folder, shards, threads, bad) -> list[tuple[str, int]]:
    """Writes one split's files and returns their names and lengths; adds to `bad`."""
    records = source.records(split)
    count = records.num_examples
    if shards is None:
        shards = max(
            min(_MIN_SHARDS, count // 16), int(count * records.bytes_per_example / _SHARD_BYTES)
        )
    shards = max(1, min(shards, count))
    # The folder's order is by a hash of the names: as good as shuffled.
    bounds = np.arange(shards + 1) * count // shards
    files = []
    with (
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
        tqdm(total=count, desc=split, unit="image") as progress,
    ):
        for shard in range(shards):
            name = f"{split}-{shard:05d}-of-{shards:05d}.tfrecord"
            written = 0
            with tf.io.TFRecordWriter(os.path.join(folder, name)) as writer:
                indices = range(bounds[shard], bounds[shard + 1])
                for record, problem in pool.map(lambda i: _record(records, i, source), indices):
                    progress.update()
                    if problem:
                        bad.append(problem)
                        tqdm.write(f"cannot use {problem[0]}: {problem[1]}")
                    else:
                        writer.write(record)
                        written += 1
            files.append((name, written))
    return files


def _record(records, index: int, source) -> tuple[bytes | None, tuple[str, str] | None]:
    """(serialized record, None), or (None, (file, reason)) if the image cannot be read."""
    file = records.file_name(index).numpy().decode()
    try:
        raw = records.fetch(index)
        if not raw["image"].numpy():
            return None, (file, "the file is empty (zero bytes)")
        decode_image(raw["image"])
    except tf.errors.OpError as error:
        return None, (file, error.message.splitlines()[0])
    features = {
        "image/encoded": _bytes(raw["image"].numpy()),
        "image/class/label": tf.train.Feature(
            int64_list=tf.train.Int64List(value=[int(raw["label"])])
        ),
        "image/filename": _bytes(os.path.relpath(file, source.name).encode()),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(), None


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def main(argv: list[str]) -> None:
    """Command line."""
    if len(argv) != 3:
        raise app.UsageError("expected FOLDER and OUTPUT")
    try:
        bad = make_tfrecords(
            argv[1],
            argv[2],
            shards=_SHARDS.value,
            on_bad_image=_ON_BAD_IMAGE.value,
            threads=_THREADS.value,
        )
    except ValueError as error:
        raise SystemExit(f"error: {error}") from error
    for file, reason in bad:
        logging.warning("left out: %s: %s", file, reason)
    print(f"Wrote {argv[2]}; {len(bad)} images left out.")


if __name__ == "__main__":
    app.run(main)
