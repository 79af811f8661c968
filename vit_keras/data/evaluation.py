"""Every example of a split exactly once, however many hosts and replicas share the work."""

import math

import tensorflow as tf

from vit_keras.data import memory
from vit_keras.data.captions import Captions
from vit_keras.data.examples import Preprocessing
from vit_keras.data.options import pipeline_options
from vit_keras.data.order import Slice, slice_of
from vit_keras.data.registry import build_pipeline
from vit_keras.data.sources import Records, Source
from vit_keras.data.splits import Split


def num_eval_batches(
    source: Source,
    split: Split,
    batch_size: int,
    input_context: tf.distribute.InputContext | None = None,
) -> int:
    """How many batches `eval_dataset` yields with the same arguments, in every input pipeline.

    Without an input context this is the number of evaluation steps. With one, a step consumes one
    batch per replica: divide by the replicas that a pipeline feeds.
    """
    part = slice_of(batch_size, input_context)
    return _steps(source.num_examples(split), part) * part.replicas


def _steps(num_examples: int, part: Slice) -> int:
    return math.ceil(math.ceil(num_examples / part.num_pipelines) / part.size)


def eval_dataset(
    source: Source,
    split: Split,
    preprocess: str,
    batch_size: int,
    *,
    input_context: tf.distribute.InputContext | None = None,
    seed: int = 0,
    cache_raw: bool = False,
    captions: Captions | None = None,
    num_threads: int | None = None,
) -> tf.data.Dataset:
    """A finite dataset in which each example of the split occurs once, over all input pipelines.

    Each pipeline reads an even share of the split and fills up with padding to the same number of
    full batches, so that all replicas take part in every step.

    Args:
        source: from `get_source`.
        split: for instance "test" or "train[98%:]".
        preprocess: pipeline string, see `registry`.
        batch_size: of the global batch.
        input_context: which share to read; the batches are then per-replica batches.
        seed: for a pipeline with random operations.
        cache_raw: keep the encoded examples in memory for the next pass over this dataset.
        captions: where every image has a text.
        num_threads: size of the private thread pool; default one thread per core.

    Returns:
        Dataset of {"image": (b, H, W, channels), "label": (b,) int64 or what the pipeline makes of
        it, "mask": (b,) float32, 1 for an example and 0 for padding, "id": (b,) int64, the number
        of the example in the split, -1 for padding}, and with captions "text": (b, length) int32.
        With `on_bad_image="skip"` a bad image keeps its id, with mask 0 and zeros.

    Raises:
        ValueError: for arguments out of range, an empty split, or more memory needed than there is.
    """
    records = source.records(split)
    part = slice_of(batch_size, input_context)
    count, share = records.num_examples, part.num_pipelines
    first, last = count * part.pipeline // share, count * (part.pipeline + 1) // share
    padding = _steps(count, part) * part.size - (last - first)

    if records.random_access and not cache_raw:
        items = tf.data.Dataset.range(first, last).map(lambda index: {"position": index})
        pad = {"position": tf.constant(-1, tf.int64)}

        def load(item):
            return records.fetch(item["position"])

        def describe(item):
            return records.file_name(item["position"])
    else:
        items = _read(records, first, last)
        if cache_raw:
            items = items.cache()
        pad = {
            key: tf.zeros([side or 1 for side in spec.shape], spec.dtype)
            for key, spec in items.element_spec.items()
        }
        pad["position"] = tf.constant(-1, tf.int64)

        def load(item):
            return item

        def describe(item):
            return item["file"]

    items = items.concatenate(tf.data.Dataset.from_tensors(pad).repeat(padding))
    preprocessing = Preprocessing(
        load=load,
        describe=describe,
        preprocess=build_pipeline(preprocess),
        seed=seed,
        num_classes=source.num_classes,
        on_bad_image=source.on_bad_image,
        bad_images=source.bad_images,
        padded=True,
        text=captions and captions.of_example,
    )
    if cache_raw:
        size = (last - first) * records.bytes_per_example
        memory.check(f"{source.name}, {split}", {"cached examples": size})
    batches = preprocessing.batches(items, part.replica_batch_size).map(_with_mask)
    if captions is not None:
        batches = batches.map(captions.tokenized)
    batches = batches.apply(
        tf.data.experimental.assert_cardinality(_steps(count, part) * part.replicas)
    )
    return batches.prefetch(2).with_options(pipeline_options(num_threads))


def _read(records: Records, first: int, last: int) -> tf.data.Dataset:
    if last == first:  # More pipelines than examples: this one only pads.
        return _read(records, 0, 1).take(0)
    return (
        tf.data.Dataset.from_tensor_slices(records.segments(first, last))
        .interleave(records.read_segment, cycle_length=8, num_parallel_calls=8, deterministic=True)
        .map(lambda example: {"position": example["id"], **example})
    )


def _with_mask(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {
        "image": batch["image"],
        "label": batch["label"],
        "mask": tf.cast(batch["real"], tf.float32),
        "id": batch["position"],
        **({"text": batch["text"]} if "text" in batch else {}),
    }
