"""Training's order: the same on any number of hosts, exact on resuming, each epoch complete."""

import collections

import data_helpers
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import data
from vit_keras.data import order
from vit_keras.data.sources.tfrecords import TFRecordSource

COUNT, BATCH, PIPELINE = 90, 12, "decode|resize(8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return data_helpers.make_folder(tmp_path_factory.mktemp("images"), train=COUNT)


@pytest.fixture(scope="module")
def records(folder, tmp_path_factory):
    output = str(tmp_path_factory.mktemp("records") / "data")
    data_helpers.make_tfrecords(folder, output, shards=7)
    return output


@pytest.fixture(params=["folder", "folder cached", "records", "records cached", "dataset"])
def setting(request, folder, records):
    """(source, keyword arguments of train_dataset)."""
    kind, cached = request.param.split()[0], "cached" in request.param
    if kind == "dataset":
        images = np.arange(COUNT, dtype=np.uint8)[:, None, None, None] * 2
        images = np.tile(images, [1, 8, 8, 3])
        labels = np.arange(COUNT) % 3
        return data.get_source(tf.data.Dataset.from_tensor_slices((images, labels))), {}
    source = data.get_source(folder if kind == "folder" else records)
    return source, {"cache_raw": cached}


def context(pipelines, pipeline, replicas=None):
    return tf.distribute.InputContext(pipelines, pipeline, replicas or pipelines)


def take(source, batches, input_context=None, replicas_per_pipeline=1, **kwargs):
    """The values of the first global batches, or of this pipeline's part of them."""
    dataset = data.train_dataset(
        source,
        "train",
        PIPELINE,
        BATCH,
        shuffle_buffer=24,
        seed=kwargs.pop("seed", 3),
        input_context=input_context,
        **kwargs,
    )
    values = [data_helpers.values_of(b) for b in dataset.take(batches * replicas_per_pipeline)]
    return np.array(values).reshape(batches, -1)


def test_every_epoch_holds_every_example_once(setting):
    source, kwargs = setting
    # 15 batches are two epochs of 90. With lanes of unequal length an epoch is not cut at a batch.
    values = take(source, 15, **kwargs).ravel()
    counts = collections.Counter(values.tolist())
    assert set(counts) == {2 * i for i in range(COUNT)}
    assert set(counts.values()) <= {1, 2, 3}
    first = values[:COUNT].tolist()
    assert first != sorted(first)
    assert first != values[COUNT:].tolist()


@pytest.mark.parametrize("hosts", [2, 3])
def test_same_batches_on_any_number_of_hosts(setting, hosts):
    source, kwargs = setting
    whole = take(source, 9, **kwargs)
    parts = [take(source, 9, context(hosts, host), **kwargs) for host in range(hosts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_replicas_of_a_host_share_its_part(setting):
    source, kwargs = setting
    whole = take(source, 5, **kwargs)
    parts = [
        take(source, 5, context(2, host, 6), replicas_per_pipeline=3, **kwargs) for host in (0, 1)
    ]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("start", [7, 22])
def test_resuming_continues_exactly(setting, start):
    source, kwargs = setting
    whole = take(source, start + 3, **kwargs)
    resumed = take(source, 3, start_batch=start, **kwargs)
    np.testing.assert_array_equal(resumed, whole[start:])
    half = take(source, 3, context(2, 1), start_batch=start, **kwargs)
    np.testing.assert_array_equal(half, whole[start:, BATCH // 2 :])


def test_another_seed_is_another_order(setting):
    source, kwargs = setting
    assert (take(source, 3, **kwargs) != take(source, 3, seed=4, **kwargs)).any()


def test_augmentation_is_resumed_too(folder):
    source = data.get_source(folder)
    noise = "decode|resize(8)|random_erasing(1.0)"

    def batches(count, **kwargs):
        dataset = data.train_dataset(source, "train", noise, BATCH, seed=5, **kwargs)
        return [batch["image"].numpy() for batch in dataset.take(count)]

    whole = batches(10)
    np.testing.assert_array_equal(batches(2, start_batch=8), whole[8:])
    # The same image in another epoch is erased elsewhere.
    assert any((a != b).any() for a, b in zip(whole[:2], whole[8:], strict=True))


def test_resuming_reads_little(records, monkeypatch):
    """Of a lane's files, those before the current window are not read."""
    source = TFRecordSource(records)
    opened = []
    split = source.records("train")
    read = split.read_segment

    def counting(segment):
        tf.numpy_function(lambda take: opened.append(int(take)), [segment[2]], [])
        return read(segment)

    monkeypatch.setattr(split, "read_segment", counting)
    monkeypatch.setattr(source, "records", lambda split_name: split)
    take(source, 1, start_batch=6)  # 72 of 90 examples were consumed.
    assert opened
    assert sum(opened[: split.num_files]) <= COUNT


def test_lanes_cover_everything_once(records):
    split = data.get_source(records).records("train")
    lanes = order.lanes_for(split, BATCH)
    assert lanes.count == 4  # A power of two that divides the batch and leaves a file to each.
    assert lanes.bounds[0] == 0
    assert lanes.bounds[-1] == COUNT
    rows = [split.segments(a, b) for a, b in zip(lanes.bounds[:-1], lanes.bounds[1:], strict=True)]
    assert sum(int(row[:, 2].sum()) for row in rows) == COUNT


def test_slices_that_do_not_divide():
    with pytest.raises(ValueError, match="multiple of the 8 replicas"):
        order.slice_of(12, context(2, 0, 8))
    with pytest.raises(ValueError, match="positive integer, got 0"):
        order.slice_of(0, None)


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_shuffled_index_is_a_permutation(size):
    got = [int(order.shuffled_index(i, 11, 2, size)) for i in range(size)]
    assert sorted(got) == list(range(size))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"start_batch": -1}, "start_batch must not be negative, got -1"),
        ({"shuffle_buffer": 0}, "shuffle_buffer must be positive, got 0"),
        ({"batch_size": 91}, "90 examples, fewer than a batch of 91"),
        ({"split": "trian"}, "Did you mean 'train'"),
        ({"preprocess": "decode"}, "fixes the size"),
        ({"preprocess": "decode|resize(8)|drop('label')"}, "must leave 'image' and 'label'"),
    ],
)
def test_arguments_that_make_no_sense(folder, kwargs, message):
    defaults = {"split": "train", "preprocess": PIPELINE, "batch_size": BATCH}
    with pytest.raises(ValueError, match=message):
        data.train_dataset(data.get_source(folder), **{**defaults, **kwargs})


def test_too_little_memory(records, monkeypatch):
    from vit_keras.data import memory

    monkeypatch.setattr(memory, "available_memory", lambda: 1000)
    with pytest.raises(ValueError, match="Lower shuffle_buffer or turn off cache_raw"):
        data.train_dataset(data.get_source(records), "train", PIPELINE, BATCH)


def test_available_memory_is_plausible():
    from vit_keras.data import memory

    available = memory.available_memory()
    assert available is None or 1 << 20 < available < 1 << 50
