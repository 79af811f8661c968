"""The loop: metrics, events, and everything that can go wrong in between."""

import io
import json
import logging
import os
import signal
import sys

import absl.logging
import numpy as np
import pytest
import tensorflow as tf
from tiny_training import make_batches, make_step, tiny_model

from vit_keras.training import Preempted, TrainingDivergedError, TrainLoop, get_strategy
from vit_keras.training.loss_scale import DynamicLossScale
from vit_keras.training.metric_writer import MetricWriter
from vit_keras.training.preemption import EXIT_CODE, StopSignal
from vit_keras.training.saving import CheckpointError, Checkpoints


def make_loop(workdir, *, num_batches=None, total_steps=12, strategy=None, step=None, **kwargs):
    strategy = strategy or get_strategy("one_device")
    images, labels = make_batches(20)

    def make_dataset(start, context):
        size = 8 // context.num_replicas_in_sync
        dataset = tf.data.Dataset.from_tensor_slices({"image": images, "label": labels})
        return (
            dataset.repeat()
            .take(num_batches or -1)
            .skip(start)
            .unbatch()
            .batch(size, drop_remainder=True)
        )

    if step is None:
        with strategy.scope():
            step = make_step(tiny_model(dropout=0.2), history_length=4)
    arguments = dict(
        total_steps=total_steps,
        checkpoints=Checkpoints(os.path.join(workdir, "checkpoints")),
        writer=MetricWriter(str(workdir)),
        progress_every=3,
    )
    return TrainLoop(strategy, step, make_dataset, **{**arguments, **kwargs})


def weights(loop):
    return {name: v.numpy() for name, v in loop.train_step.state().items()}


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_metrics_and_events(tmp_path):
    evaluated = []

    def evaluate():
        evaluated.append(int(loop.train_step.step.numpy()))
        yield "test/accuracy", 0.5

    loop = make_loop(tmp_path, eval_every=5, checkpoint_every=4, evaluate=evaluate)
    metrics = loop.run(0)
    assert evaluated == [5, 10, 12]
    assert loop.checkpoints.steps() == [8, 12]  # the last two
    written = lines(tmp_path)
    assert [line["step"] for line in written if "loss" in line] == [3, 6, 9, 12]
    assert [line["step"] for line in written if "test/accuracy" in line] == [5, 10, 12]
    assert metrics["test/accuracy"] == 0.5
    assert metrics["images_per_s"] > 0
    assert metrics["learning_rate"] == pytest.approx(0.1)
    assert os.listdir(tmp_path / "tensorboard")


def test_steps_per_loop_changes_nothing(tmp_path):
    loop = make_loop(tmp_path / "a")
    loop.run(0)
    other = make_loop(tmp_path / "b", step=make_step(tiny_model(dropout=0.2), history_length=1))
    other.run(0)
    for name, value in weights(loop).items():
        np.testing.assert_array_equal(value, weights(other)[name])


def test_resumed_run_is_the_same(tmp_path):
    whole = make_loop(tmp_path / "whole")
    whole.run(0)
    first = make_loop(tmp_path / "parts", total_steps=5)
    first.run(first.restore())
    second = make_loop(tmp_path / "parts")
    assert second.restore() == 5
    second.run(5)
    for name, value in weights(whole).items():
        np.testing.assert_array_equal(value, weights(second)[name])


def test_resume_on_another_number_of_replicas(tmp_path):
    first = make_loop(tmp_path, total_steps=5)
    first.run(0)
    two = make_loop(tmp_path, strategy=get_strategy("mirrored", num_devices=2))
    assert two.restore() == 5
    for name, value in weights(first).items():
        np.testing.assert_array_equal(value, weights(two)[name])


def test_sigterm_saves_and_says_where(tmp_path):
    def evaluate():
        os.kill(os.getpid(), signal.SIGTERM)
        return iter(())

    before = signal.getsignal(signal.SIGTERM)
    with StopSignal() as stop, pytest.raises(Preempted) as raised:
        make_loop(tmp_path, stop=stop, eval_every=5, evaluate=evaluate).run(0)
    assert raised.value.code == EXIT_CODE == 75
    assert raised.value.step == 6  # the step after the signal, at a loop's end
    assert raised.value.checkpoint == Checkpoints(str(tmp_path / "checkpoints")).path(6)
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_in_the_middle_of_a_message(monkeypatch):
    """Python's buffered streams raise where a signal handler writes while they are written to."""

    class Interrupted(io.RawIOBase):
        def writable(self):
            return True

        def write(self, data):
            os.kill(os.getpid(), signal.SIGTERM)
            return len(data)

    stream = io.TextIOWrapper(io.BufferedWriter(Interrupted()), write_through=True)
    monkeypatch.setattr(sys, "stderr", stream)
    handler = logging.StreamHandler(stream)
    monkeypatch.setattr(absl.logging.get_absl_logger(), "handlers", [handler])
    with StopSignal() as stop:
        stream.write("12 of 100 steps")
        stream.flush()
    assert stop.received


def test_nan_names_step_norms_and_checkpoint(tmp_path):
    def loss(model, batch, training):
        logits = model(tf.cast(batch["image"], tf.float32) / 255)
        bad = tf.cast(tf.equal(step.step, 7), tf.float32)  # the eighth step
        return tf.reduce_sum(logits, axis=-1) / (1.0 - bad)

    step = make_step(tiny_model(), history_length=4)
    step.task = loss
    loop = make_loop(tmp_path, step=step, checkpoint_every=2)
    with pytest.raises(TrainingDivergedError, match="Step 8: ") as raised:
        loop.run(0)
    assert loop.checkpoints.path(6) in str(raised.value)
    assert "head/kernel: " in str(raised.value)
    assert loop.checkpoints.steps() == [4, 6]


def test_data_that_ends_early(tmp_path):
    loop = make_loop(tmp_path, num_batches=7, checkpoint_every=2)
    with pytest.raises(ValueError, match="ended between steps 6 and 8 of 12") as raised:
        loop.run(0)
    assert loop.checkpoints.path(6) in str(raised.value)


def test_profile_writes_a_trace(tmp_path):
    loop = make_loop(tmp_path, profile=(3, 6), profile_dir=str(tmp_path / "tensorboard"))
    loop.run(0)
    assert list((tmp_path / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb"))


def test_full_disk_keeps_the_last_checkpoint(tmp_path):
    """A file system without room: /dev/full accepts no byte."""
    loop = make_loop(tmp_path, total_steps=4)
    loop.run(0)
    later = make_loop(tmp_path, total_steps=8)
    temporary = tmp_path / "checkpoints" / "tmp_checkpoint_000000008.npz"
    later.checkpoints._remove_temporaries()
    object.__setattr__(later.checkpoints, "_remove_temporaries", lambda: None)
    temporary.symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match="No space left on device") as raised:
        later.run(later.restore())
    assert later.checkpoints.path(4) in str(raised.value)
    assert later.checkpoints.steps() == [4]


def test_damaged_checkpoint_is_named_with_the_last_good_one(tmp_path):
    loop = make_loop(tmp_path, checkpoint_every=4)
    loop.run(0)
    newest = loop.checkpoints.path(12)
    with open(newest, "r+b") as file:
        file.seek(os.path.getsize(newest) // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(CheckpointError, match=r"Could not read .*012\.npz.*last good.*008\.npz"):
        make_loop(tmp_path).restore()


def test_checkpoint_of_another_model(tmp_path):
    make_loop(tmp_path, total_steps=2).run(0)
    other = make_loop(tmp_path, step=make_step(tiny_model(classes=4)))
    before = weights(other)
    with pytest.raises(
        CheckpointError, match=r"head/kernel: found \(\(8, 3\).*expected \(\(8, 4\)"
    ):
        other.restore()
    for name, value in weights(other).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("directory", ["", "ram://keep"])
def test_keep_last_and_every_nth(directory, tmp_path):
    checkpoints = Checkpoints(directory or str(tmp_path), keep=2, keep_every=4)
    for step in range(1, 11):
        checkpoints.save(step, {"step": np.int32(step)}, {})
    assert checkpoints.steps() == [4, 8, 9, 10]


@pytest.mark.parametrize("directory", ["", "ram://bits"])
def test_checkpoint_keeps_every_bit(directory, tmp_path):
    arrays = {
        "a/b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.arange(3).astype(tf.bfloat16.as_numpy_dtype),
        "step": np.int32(7),
    }
    checkpoints = Checkpoints(directory or str(tmp_path))
    found, info = checkpoints.restore(checkpoints.save(7, arrays, {"seed": 3}))
    assert info == {"seed": 3}
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_loss_scale_skips_an_overflow_and_shrinks(tmp_path):
    scale = DynamicLossScale(initial=1024.0, growth_interval=3)
    step = make_step(tiny_model(), loss_scale=scale, history_length=4)
    plain = make_step(tiny_model(), history_length=4)
    make_loop(tmp_path / "a", step=step, total_steps=4, progress_every=1).run(0)
    make_loop(tmp_path / "b", step=plain, total_steps=4, progress_every=1).run(0)
    for name, variable in step.weights.items():  # scaled and unscaled again: no change
        np.testing.assert_allclose(variable.numpy(), plain.weights[name].numpy(), atol=1e-6)
    assert scale.scale.numpy() == 2048.0
    before = weights(make_loop(tmp_path, step=step))
    scale.scale.assign(float("inf"))
    scaled = make_loop(tmp_path / "c", step=step, total_steps=5)
    scaled.run(4)
    for name, value in weights(scaled).items():
        if name.startswith(("weights/", "optimizer/")):
            np.testing.assert_array_equal(value, before[name])
