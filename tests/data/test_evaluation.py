"""Evaluation sees every example exactly once, however the work is shared."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import data_helpers
import numpy as np
import pytest
import tensorflow as tf

from vit_keras import data

COUNT, PIPELINE = 45, "decode|resize(8)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    return data_helpers.make_folder(root, train=COUNT, test=COUNT)


def collect(dataset):
    """[(id, value)] of the real examples, and the number of batches."""
    seen, batches = [], 0
    for batch in dataset:
        batches += 1
        values = data_helpers.values_of(batch)
        for index, value, mask in zip(batch["id"].numpy(), values, batch["mask"], strict=True):
            assert float(mask) in (0.0, 1.0)
            assert (index >= 0) == bool(mask)
            if mask:
                seen.append((int(index), value))
    return seen, batches


@pytest.mark.parametrize("cache_raw", [False, True])
@pytest.mark.parametrize("batch_size", [7, 45])
def test_every_example_once(folder, batch_size, cache_raw):
    source = data.get_source(folder)
    dataset = data.eval_dataset(source, "test", PIPELINE, batch_size, cache_raw=cache_raw)
    for _ in range(2):  # An evaluation is repeated; with cache_raw the second one reads no file.
        seen, batches = collect(dataset)
        assert sorted(index for index, _ in seen) == list(range(COUNT))
        assert sorted(value for _, value in seen) == [2 * i for i in range(COUNT)]
        assert batches == data.num_eval_batches(source, "test", batch_size)
        assert batches == int(dataset.cardinality())


@pytest.mark.parametrize(("pipelines", "replicas"), [(2, 2), (3, 3), (4, 16)])
def test_over_input_pipelines(folder, pipelines, replicas):
    source, seen = data.get_source(folder), []
    batch_size = 16 if replicas != 3 else 15
    batch_size = max(batch_size, replicas)
    for pipeline in range(pipelines):
        context = tf.distribute.InputContext(pipelines, pipeline, replicas)
        dataset = data.eval_dataset(source, "test", PIPELINE, batch_size, input_context=context)
        part, batches = collect(dataset)
        seen += part
        assert batches == data.num_eval_batches(source, "test", batch_size, context)
        assert dataset.element_spec["image"].shape[0] == batch_size // replicas
    assert sorted(index for index, _ in seen) == list(range(COUNT))
    assert len({value for _, value in seen}) == COUNT


def test_more_pipelines_than_examples(folder):
    """Some pipelines have nothing but padding, and still give as many batches as the others."""
    source, seen = data.get_source(folder), []
    for pipeline in range(4):
        context = tf.distribute.InputContext(4, pipeline, 4)
        dataset = data.eval_dataset(source, "test[:3]", PIPELINE, 4, input_context=context)
        part, batches = collect(dataset)
        seen += [index for index, _ in part]
        assert batches == 1
    assert sorted(seen) == [0, 1, 2]


def test_a_part_of_a_split(folder):
    source = data.get_source(folder)
    first, _ = collect(data.eval_dataset(source, "test[:60%]", PIPELINE, 8))
    rest, _ = collect(data.eval_dataset(source, "test[60%:]", PIPELINE, 8))
    assert len(first) == 27
    assert sorted(v for _, v in first + rest) == [2 * i for i in range(COUNT)]


def test_ids_follow_the_label(folder):
    """An id always means the same image, also when it is one of several pipelines that reads it."""
    source = data.get_source(folder)
    whole = dict(collect(data.eval_dataset(source, "test", PIPELINE, 8))[0])
    context = tf.distribute.InputContext(2, 1, 2)
    part = data.eval_dataset(source, "test", PIPELINE, 8, input_context=context)
    for index, value in collect(part)[0]:
        assert whole[index] == value


def run_workers(folder, output, workers, replicas):
    """Counts ids in real processes under TensorFlow's own strategies."""
    script = pathlib.Path(__file__).with_name("count_ids_worker.py")
    ports = []
    for _ in range(workers):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    processes = []
    for worker in range(workers):
        environment = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
        if workers > 1:
            cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
            task = {"type": "worker", "index": worker}
            environment["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
        command = [sys.executable, str(script), folder, f"{output}.{worker}", str(replicas)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors.decode()[-3000:]
    finally:
        for process in processes:
            process.kill()
    return [json.loads(pathlib.Path(f"{output}.{worker}").read_text()) for worker in range(workers)]


@pytest.mark.slow
def test_under_mirrored_strategy(folder, tmp_path):
    """1, 2 and 4 replicas in one process."""
    [result] = run_workers(folder, tmp_path / "ids", 1, 4)
    assert sorted(result) == ["1", "2", "4"]
    for replicas, counted in result.items():
        assert sorted(counted["ids"]) == list(range(COUNT)), f"{replicas} replicas"
        assert counted["replicas_with_data"] == int(replicas)


@pytest.mark.slow
def test_under_two_workers(folder, tmp_path):
    results = run_workers(folder, tmp_path / "ids", 2, 2)
    ids = [result["2"]["ids"] for result in results]
    assert sorted(ids[0] + ids[1]) == list(range(COUNT))
    assert min(len(part) for part in ids) >= COUNT // 2
    steps = [result["2"]["steps"] for result in results]
    assert steps[0] == steps[1]


def test_padding_is_zeros_of_the_right_type(folder):
    source = data.get_source(folder)
    pipeline = "decode|resize(8)|value_range(-1, 1)|onehot(3)"
    *_, last = data.eval_dataset(source, "test", pipeline, 32)
    padding = last["mask"].numpy() == 0
    assert padding.sum() == 64 - COUNT
    np.testing.assert_array_equal(last["image"].numpy()[padding], 0)
    np.testing.assert_array_equal(last["label"].numpy()[padding], 0)
    np.testing.assert_array_equal(last["label"].numpy()[~padding].sum(axis=1), 1)
