"""Endless, shuffled, resumable batches for training."""

import itertools
import os

import numpy as np
import tensorflow as tf

from vit_keras.data import memory
from vit_keras.data.captions import Captions
from vit_keras.data.examples import Preprocessing, chunk_size
from vit_keras.data.options import pipeline_options
from vit_keras.data.order import Lanes, Slice, lanes_for, shuffled_index, slice_of
from vit_keras.data.registry import build_pipeline
from vit_keras.data.sources import Records, Source
from vit_keras.data.splits import Split

_FOREVER = np.iinfo(np.int64).max
_PREFETCH_BATCHES = 2


def train_dataset(
    source: Source,
    split: Split,
    preprocess: str,
    batch_size: int,
    *,
    shuffle_buffer: int = 50_000,
    seed: int = 0,
    start_batch: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    cache_raw: bool = False,
    captions: Captions | None = None,
    num_threads: int | None = None,
) -> tf.data.Dataset:
    """An infinite dataset of batches whose content depends only on data, seed and batch size.

    Global batch k holds the same examples, augmented alike, on any number of hosts, and whether
    the run began at batch 0 or was resumed. How, and what resuming costs, depends on the source:

    - Folders of images (random access): each epoch is a full permutation, computed index by index.
      No shuffle buffer; resuming costs nothing.
    - TFRecords and TFDS: the split is cut into up to 128 lanes (see `order.Lanes`). In each epoch
      a lane permutes its files, then shuffles records in windows of `shuffle_buffer // (2 *
      lanes)`, of which two are in memory: one being emptied and one being filled. Resuming reads,
      without decoding, from the beginning of the file in which the current window begins: less
      than a file and a window per lane. If the number of hosts doesn't divide the number of lanes
      (few files, or an odd number of hosts), every host reads all lanes and keeps its part.
    - A `tf.data.Dataset`: as TFRecords, with one lane; resuming skips elements of one epoch.
    - `cache_raw=True`: every host holds its lanes' encoded examples in memory and permutes them
      fully in each epoch; resuming reads them once, as starting does.

    An example that cannot be used stops the pipeline with an error that names it. If the source
    says `on_bad_image="skip"`, the next usable one of the same batch takes its place, so that no
    other example moves, and the file is listed in `source.bad_images`.

    Args:
        source: from `get_source`.
        split: for instance "train" or "train[:98%]".
        preprocess: pipeline string, see `registry`.
        batch_size: of the global batch.
        shuffle_buffer: encoded examples held in memory for shuffling, over all hosts.
        seed: of order and augmentation.
        start_batch: number of global batches that were consumed before.
        input_context: which part of each batch to make; the batches are then per-replica batches.
        cache_raw: keep the encoded examples in memory.
        captions: where every image has a text.
        num_threads: size of the private thread pool; default one thread per core.

    Returns:
        Dataset of {"image": (b, H, W, channels) uint8 or float, "label": (b,) int64, or what the
        pipeline makes of it}, and with captions "text": (b, length) int32.

    Raises:
        ValueError: for arguments out of range, a split smaller than a batch, or more memory needed
            than the host has.
    """
    if start_batch < 0:
        raise ValueError(f"start_batch must not be negative, got {start_batch}.")
    if shuffle_buffer < 1:
        raise ValueError(f"shuffle_buffer must be positive, got {shuffle_buffer}.")
    records = source.records(split)
    part = slice_of(batch_size, input_context)
    if records.num_examples < batch_size:
        raise ValueError(
            f"{source.name}: the split {split!r} has {records.num_examples} examples, fewer than "
            f"a batch of {batch_size}."
        )
    start = start_batch * part.size
    buffered = 0
    if records.random_access and not cache_raw:
        items = tf.data.Dataset.range(start, _FOREVER).map(
            lambda local: {"position": part.position(local)}
        )

        def index_of(item):
            epoch, position = divmod_positive(item["position"], records.num_examples)
            return shuffled_index(position, seed, epoch, records.num_examples)

        def load(item):
            return records.fetch(index_of(item))

        def describe(item):
            return records.file_name(index_of(item))
    else:
        # Cached examples need no file of their own per lane.
        lanes = lanes_for(records, batch_size)
        if cache_raw:
            raw = _cached(records, lanes, part, seed, start)
            mine = lanes.of(part) or range(lanes.count)
            buffered = int(lanes.bounds[mine.stop] - lanes.bounds[mine.start])
        else:
            raw = _streamed(records, lanes, part, seed, start_batch, shuffle_buffer)
            buffered = min(shuffle_buffer, records.num_examples)
            if lanes.of(part):
                buffered = buffered * part.size // batch_size
        items = tf.data.Dataset.zip((tf.data.Dataset.range(start, _FOREVER), raw)).map(
            lambda local, example: {"position": part.position(local), **example}
        )

        def load(item):
            return item

        def describe(item):
            return item["file"]

    preprocessing = Preprocessing(
        load=load,
        describe=describe,
        preprocess=build_pipeline(preprocess),
        seed=seed,
        num_classes=source.num_classes,
        on_bad_image=source.on_bad_image,
        bad_images=source.bad_images,
        padded=False,
        text=captions and captions.of_example,
    )
    spec = preprocessing.element_spec(items)
    # Waiting, being put together, and in the hands of each thread.
    threads = num_threads or os.cpu_count() or 1
    images_in_flight = (_PREFETCH_BATCHES + 2) * part.replica_batch_size + threads * chunk_size(
        part.replica_batch_size
    )
    memory.check(
        f"{source.name}, {split}",
        {
            "cached examples" if cache_raw else "shuffle buffer": buffered
            * records.bytes_per_example,
            "finished images": images_in_flight * _size(spec),
        },
    )
    batches = preprocessing.batches(items, part.replica_batch_size)
    batches = batches.map(_replace_bad if source.on_bad_image == "skip" else _features)
    if captions is not None:
        batches = batches.map(captions.tokenized, num_parallel_calls=2, deterministic=True)
    return batches.prefetch(_PREFETCH_BATCHES).with_options(pipeline_options(num_threads))


def divmod_positive(value: tf.Tensor, divisor: int) -> tuple[tf.Tensor, tf.Tensor]:
    """(value // divisor, value % divisor) of int64 tensors."""
    divisor = tf.constant(divisor, tf.int64)
    return value // divisor, value % divisor


def _features(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {key: batch[key] for key in ("image", "label", "text") if key in batch}


def _replace_bad(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Puts the next real example of the batch, cyclically, in the place of each bad one."""
    real = batch["real"]

    def replaced():
        some = tf.debugging.Assert(tf.reduce_any(real), ["Every image of a batch is bad."])
        with tf.control_dependencies([some]):
            usable = tf.where(real)[:, 0]
        ahead = tf.cumsum(tf.cast(real, tf.int64), exclusive=True) % tf.size(usable, tf.int64)
        rows = tf.gather(usable, ahead)
        return {k: tf.gather(v, rows) for k, v in _features(batch).items()}

    return tf.cond(tf.reduce_all(real), lambda: _features(batch), replaced)


def _lane_seed(seed: int, lane: tf.Tensor) -> tf.Tensor:
    return tf.cast(seed, tf.int64) * 1_000_003 + tf.cast(lane, tf.int64)


def _streamed(
    records: Records, lanes: Lanes, part: Slice, seed: int, start_batch: int, shuffle_buffer: int
) -> tf.data.Dataset:
    """Raw examples of this pipeline in the order of lanes, without end."""
    window = max(1, shuffle_buffer // (2 * lanes.count))
    bounds = lanes.bounds
    tables = [records.segments(a, b) for a, b in itertools.pairwise(bounds)]
    rows = max(len(table) for table in tables)
    segments = np.zeros((lanes.count, rows, 4), np.int64)  # Padded by runs of no examples.
    for lane, table in enumerate(tables):
        segments[lane, : len(table)] = table
    segments = tf.constant(segments)
    lengths = tf.constant(np.diff(bounds))
    consumed = start_batch * lanes.chunk

    def lane_dataset(lane):
        length = lengths[lane]
        start = tf.constant(consumed, tf.int64)

        def epoch_dataset(epoch):
            done = tf.where(tf.equal(epoch, start // length), start % length, 0)
            lane_segments = tf.random.experimental.stateless_shuffle(
                segments[lane], tf.stack([_lane_seed(seed, lane), epoch])
            )
            return _epoch(records, lane_segments, done, window, _lane_seed(seed, lane), epoch)

        epochs = tf.data.Dataset.range(start // length, _FOREVER)
        return epochs.flat_map(epoch_dataset).prefetch(min(window, 16))

    mine = lanes.of(part)
    chosen = mine or range(lanes.count)
    merged = tf.data.Dataset.range(chosen.start, chosen.stop).interleave(
        lane_dataset,
        cycle_length=len(chosen),
        block_length=lanes.chunk,
        num_parallel_calls=min(len(chosen), 16),
        deterministic=True,
    )
    if mine:
        return merged
    # Slices cut through lanes: every pipeline reads everything and keeps its part.
    first = part.pipeline * part.size
    return (
        merged.enumerate()
        .filter(
            lambda index, _: (
                (index % part.batch_size >= first) & (index % part.batch_size < first + part.size)
            )
        )
        .map(lambda _, example: example)
    )


def _epoch(
    records: Records,
    segments: tf.Tensor,
    done: tf.Tensor,
    window: int,
    seed: tf.Tensor,
    epoch: tf.Tensor,
) -> tf.data.Dataset:
    """One lane's epoch, shuffled in windows, from its `done`-th example on."""
    first_window = done // window
    # Files before the current window are not opened at all.
    file, skip, take, first_id = tf.unstack(segments, axis=1)
    passed = tf.clip_by_value(first_window * window - tf.cumsum(take, exclusive=True), 0, take)
    left = tf.stack([file, skip + passed, take - passed, first_id + passed], axis=1)
    left = tf.boolean_mask(left, left[:, 2] > 0)

    def shuffled(index, examples):
        order_seed = seed * 1_000_003 + epoch * 8_191 + first_window + index
        # tf.data would mix in the global seed; the order is to depend on `seed` alone.
        tf.compat.v1.get_default_graph().seed = None
        return tf.data.Dataset.zip(examples).shuffle(
            window, seed=order_seed, reshuffle_each_iteration=False
        )

    return (
        tf.data.Dataset.from_tensor_slices(left)
        .flat_map(records.read_segment)
        .window(window)
        .prefetch(1)
        .enumerate()
        .flat_map(shuffled)
        .skip(done - first_window * window)
    )


def _cached(records: Records, lanes: Lanes, part: Slice, seed: int, start: int) -> tf.data.Dataset:
    """Raw examples of this pipeline, permuted in memory, without end."""
    chosen = lanes.of(part) or range(lanes.count)
    bounds = lanes.bounds
    first, last = int(bounds[chosen.start]), int(bounds[chosen.stop])
    segments = records.segments(first, last)
    everything = (
        tf.data.Dataset.from_tensor_slices(segments)
        .interleave(
            records.read_segment,
            cycle_length=8,
            block_length=int(segments[:, 2].max()),  # One file after the other, read in parallel.
            num_parallel_calls=8,
            deterministic=True,
        )
        .batch(last - first)
    )
    bounds = tf.constant(bounds)

    def example_at(local, examples):
        position = part.position(local)
        batch, within = divmod_positive(position, part.batch_size)
        lane, offset = divmod_positive(within, lanes.chunk)
        taken = batch * lanes.chunk + offset
        length = bounds[lane + 1] - bounds[lane]
        index = shuffled_index(taken % length, _lane_seed(seed, lane), taken // length, length)
        index += bounds[lane] - first
        return {key: value[index] for key, value in examples.items()}

    # One element holds all examples, and the function that picks from it holds on to it.
    return everything.flat_map(
        lambda examples: tf.data.Dataset.range(start, _FOREVER).map(
            lambda local: example_at(local, examples)
        )
    )


def _size(spec: dict[str, tf.TensorSpec]) -> int:
    return sum(t.shape.num_elements() * t.dtype.size for t in spec.values())
