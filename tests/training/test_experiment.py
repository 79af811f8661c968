"""Whole runs from a config, and every key that the original has."""

import json
import math
import os
import pathlib

import ml_collections
import numpy as np
import pytest
import tensorflow as tf

from vit_keras.training import config_defaults, preemption, train, workdir
from vit_keras.training.experiment import Experiment

GOLDENS = pathlib.Path(__file__).parents[1] / "goldens"

# vision_transformer's vit_jax/configs/common.py
ORIGINAL = {
    "pretrained_dir": ".",
    "tfds_manual_dir": None,
    "tfds_data_dir": None,
    "total_steps": None,
    "grad_norm_clip": 1.0,
    "optim_dtype": "bfloat16",
    "accum_steps": 8,
    "batch": 512,
    "batch_eval": 512,
    "shuffle_buffer": 50_000,
    "eval_every": 100,
    "progress_every": 10,
    "checkpoint_every": 1_000,
    "prefetch": 2,
    "base_lr": 0.03,
    "decay_type": "cosine",
    "warmup_steps": 500,
    "trainer": "train",
    "model_or_filename": None,
    "dataset": None,
}


def config(folder, **changes):
    """A tiny run on `folder` from a checkpoint of the goldens."""
    return ml_collections.ConfigDict(
        {
            "pretrained_dir": str(GOLDENS / "vit_token_legacy"),
            "model": {"model_name": "checkpoint"},
            "dataset": str(folder),
            "pp": {"crop": 32},
            "total_steps": 4,
            "warmup_steps": 1,
            "batch": 8,
            "batch_eval": 8,
            "accum_steps": 1,
            "progress_every": 1,
            "shuffle_buffer": 16,
            "strategy": "one_device",
            **changes,
        }
    )


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def files(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file()}


def test_the_originals_keys_and_defaults():
    defaults = config_defaults.get_config().to_dict()
    assert {key: defaults[key] for key in ORIGINAL} == ORIGINAL
    assert {"train", "test", "crop"} <= set(defaults["pp"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_step": 3}, "Did you mean 'warmup_steps'"),
        ({"pp": {"corp": 3}}, "Did you mean 'pp.crop'"),
        ({"dataset": None}, "config.dataset is not set"),
        (
            {"batch": 9, "accum_steps": 2},
            "config.batch is 9; expected a multiple of the 1 replicas",
        ),
        ({"strategy": "tqu"}, "Did you mean 'tpu'"),
        ({"total_epochs": 2}, "got total_steps=4, total_epochs=2"),
        ({"model": {"model_name": "B_16"}}, r"There is no .*B_16\.npz"),
        ({"optimizer": "adan"}, "Did you mean 'adam'"),
        ({"frozen": ("nothing/",)}, "frozen: the pattern 'nothing/' matches no parameter"),
        ({"evaluators": {"probe": {"type": "fewshot"}}}, "Did you mean 'few_shot'"),
        ({"trainer": "inference_time"}, "only 'train' exists"),
        ({"profile": "7"}, "expected 'first:last'"),
    ],
)
def test_wrong_configs(digits_folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(config(digits_folder, **changes), tmp_path / "run")


@pytest.mark.slow
def test_run_again_and_with_another_config(digits_folder, tmp_path):
    arguments = dict(checkpoint_every=3, eval_every=2, keep_checkpoints=5)
    result = train(config(digits_folder, **arguments), tmp_path)
    assert not result.already_finished
    assert result.step == 4
    assert result.metrics["test/examples"] == 8
    assert result.class_names == ["0", "1"]
    assert result.model.output_shape == (None, 2)
    written = lines(tmp_path)
    assert [line["step"] for line in written if "test/accuracy" in line] == [2, 4]
    assert [line["step"] for line in written if "loss" in line] == [1, 2, 3, 4]
    assert sorted(os.listdir(tmp_path / "checkpoints")) == [
        f"checkpoint_{step:09d}.npz" for step in (3, 4)
    ]
    assert written[0]["loss"] == pytest.approx(math.log(2), rel=1e-5)  # the head is made new
    assert written[0]["learning_rate"] == 0.0  # warm-up
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["tensorflow"] == tf.__version__
    assert json.loads((tmp_path / "result.json").read_text())["core_hours"] > 0

    before = files(tmp_path)
    again = train(config(digits_folder, **arguments), tmp_path)
    assert again.already_finished
    assert again.metrics == result.metrics
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(again.model(images), result.model(images))
    with pytest.raises(ValueError, match=r"config.base_lr: was 0.03, is 0.1\n.*momentum.*0.5"):
        train(
            config(digits_folder, **arguments, base_lr=0.1, optimizer_args={"momentum": 0.5}),
            tmp_path,
        )
    allowed = config(digits_folder, **{**arguments, "checkpoint_every": 1, "progress_every": 2})
    assert train(allowed, tmp_path).already_finished
    assert files(tmp_path).keys() == before.keys()
    unchanged = {k: v for k, v in before.items() if "tfevents" not in k.name}
    assert {k: v for k, v in files(tmp_path).items() if k in unchanged} == unchanged


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "mixed_bfloat16", "accum_steps": 2, "mixup": 0.2, "cutmix": 1.0},
        {"dtype": "mixed_float16", "optimizer": "adam", "weight_decay": 1e-4, "loss": "sigmoid"},
        {
            "strategy": "mirrored",
            "num_devices": 2,
            "ema_decay": 0.9,
            "evaluators": {"probe": {"type": "few_shot", "shots": (2,)}, "near": {"type": "knn"}},
            "sharpness": {"rho": 0.05, "alpha": 0.1, "rho_min": 0.01},
            "layer_decay": 0.75,
            "model": {"model_name": "checkpoint", "dropout": 0.1, "stochastic_depth": 0.1},
        },
    ],
    ids=["bfloat16", "float16", "replicas"],
)
def test_runs_of_many_kinds(digits_folder, tmp_path, changes):
    result = train(config(digits_folder, **changes), tmp_path)
    assert result.metrics["test/examples"] == 8
    losses = [line["loss"] for line in lines(tmp_path) if "loss" in line]
    assert len(losses) == 4
    assert all(np.isfinite(losses))
    if "evaluators" in changes:
        assert 0 <= result.metrics["probe/2shot_seed2"] <= 1
        assert 0 <= result.metrics["near/1nn"] <= 1


def test_optimizer_settings_reach_the_step(digits_folder, tmp_path):
    changed = config(
        digits_folder,
        optim_dtype="float32",
        grad_norm_clip=None,
        decay_type="linear",
        linear_end=0.001,
        optimizer_args={"momentum": 0.5},
        frozen=("embedding/",),
        lr_multipliers=(("head/", 2.0),),
        weight_decay=0.1,
        total_steps=None,
        total_epochs=3,
        head_bias=-2.0,
    )
    experiment = Experiment(changed, tmp_path, preemption.StopSignal())
    step = experiment.train_step
    assert experiment.total_steps == 12
    assert step.rule.momentum == 0.5
    assert step.slots[0]["momentum"].dtype == tf.float32
    assert step.grad_norm_clip is None
    assert step.schedule(12).numpy() == pytest.approx(0.001)
    settings = {setting.name: setting for setting in step.settings}
    assert "embedding/kernel" not in settings
    assert settings["head/kernel"].lr_multiplier == 2.0
    assert settings["head/kernel"].weight_decay == 0.1
    assert settings["head/bias"].weight_decay == 0.0
    np.testing.assert_array_equal(step.weights["head/bias"], [-2.0, -2.0])
    default = Experiment(config(digits_folder), tmp_path / "2", preemption.StopSignal()).train_step
    assert default.slots[0]["momentum"].dtype == tf.bfloat16
    assert default.grad_norm_clip == 1.0


def test_workdir_elsewhere():
    """The same without a local file system (TensorFlow's file system in memory)."""
    workdir.claim("ram://run", {"a": 1, "b": {"c": [1, 2]}})
    workdir.claim("ram://run", {"a": 1, "b": {"c": (1, 2)}})
    with pytest.raises(ValueError, match=r"config.b.c: was \[1, 2\], is \[1, 3\]"):
        workdir.claim("ram://run", {"a": 1, "b": {"c": [1, 3]}})
    assert workdir.read_result("ram://run") is None
    workdir.write_result("ram://run", {"loss": 1.0})
    assert workdir.read_result("ram://run") == {"loss": 1.0}
