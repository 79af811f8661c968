"""Every experiment of tpu_configs: built with all its arguments, and run shrunk."""

import inspect
import itertools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import tpu_configs
import vit_keras
from tpu_configs import common
from vit_keras import data
from vit_keras.commands.config_argument import read_config
from vit_keras.preflight.lowering import check_batches
from vit_keras.preflight.workload import get_workload
from vit_keras.training import config_defaults, train
from vit_keras.training.flexible import at_patch_size

FOLDER = Path(tpu_configs.__file__).parent
HELPERS = {"__init__", "arguments", "common", "runlocal"}
EXPERIMENTS = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in HELPERS)

DATASETS = [*common.DATASETS]
AUGREG = ["Ti_16", "S_32", "S_16", "B_32", "B_16", "B_8", "L_16", "R_Ti_16", "R26_S_32", "R50_L_32"]
SIZES = ["ti16", "s32", "s16", "b32", "b16", "l16", "r_ti16", "r26_s32", "r50_l32"]
# Every value of every documented argument, and what is run shrunk.
ARGUMENTS = {
    "augreg": [AUGREG],
    "augreg_i21k": [SIZES, ["best", *common.AUGMENTATIONS], ["300", "30"]],
    "deit_i1k": [["b16", "l16", "s16", "ti16"]],
    "digits": [],
    "flexivit": [["b", "s", "l"], ["90", "300", "600", "1200"]],
    "flexivit_i21k": [["90", "300", "1000"]],
    "mixer": [["mixer_b16", "mixer_b32", "mixer_l16"], DATASETS],
    "mixer_i1k": [["300", "60"]],
    "sam_i1k": [["b32", "b16", "s32", "s16", "l16"], ["gsam", "sam"]],
    "siglip": [["b16", "l16", "so400m14"]],
    "siglip_lit_coco": [["b16", "l16"]],
    "vit": [[*common.VITS, *common.HYBRIDS, *common.MIXERS], DATASETS],
    "vit_s16_i1k": [["90", "150", "300"]],
}
RUNS = {
    "augreg": ["R_Ti_16"],
    "augreg_i21k": ["s16,medium1"],
    "deit_i1k": [""],
    "digits": [""],
    "flexivit": [""],
    "flexivit_i21k": [""],
    "mixer": ["mixer_b16,cifar10"],
    "mixer_i1k": [""],
    "sam_i1k": [""],
    "siglip": [""],
    "siglip_lit_coco": [""],
    "vit": ["l16,cifar10", "r26_s32,oxford_iiit_pet"],
    "vit_s16_i1k": [""],
}


def read(experiment, words=()):
    path = FOLDER / f"{experiment}.py"
    words = [word for word in words if word]
    return read_config(f"{path}:{','.join(words)}" if words else str(path), [])


def test_every_experiment_is_tested():
    assert list(ARGUMENTS) == EXPERIMENTS
    assert list(RUNS) == EXPERIMENTS


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_headers(experiment):
    header = (FOLDER / f"{experiment}.py").read_text().split('"""')[1]
    assert f"vit-keras train --config=tpu_configs/{experiment}.py" in header
    assert re.search(r"^Arguments: .*runlocal", header, re.MULTILINE)
    assert re.search(r"^Time\b", header, re.MULTILINE)
    assert re.search(r"^(Published|Time and result)\b", header, re.MULTILINE)
    for values in ARGUMENTS[experiment]:
        for value in values:
            assert re.search(rf"\b{value}\b", header) or value in [*DATASETS, *common.MIXERS]
    assert experiment in (FOLDER.parent / "docs" / "experiments.md").read_text()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_argument(experiment):
    for words in itertools.product(*ARGUMENTS[experiment]):
        config = config_defaults.complete(read(experiment, words))
        for replicas in (8, 32) if config.batch >= 512 else (4,):
            check_batches(config, replicas)
        if experiment == "augreg":  # its data set is left to the command line
            assert config.dataset is None
            continue
        classes = 1 if config.text.feature else None
        known = {"sklearn_digits/digits_5_9": 5}.get(config.dataset)
        workload = get_workload(config, classes=classes or known)
        assert workload.total_steps > workload.warmup_steps > 0
        size = config.pp.crop
        assert isinstance(size, int)
        for ops in (config.pp.train_ops, config.pp.test_ops):
            if ops is not None:
                data.build_pipeline(ops)
                assert str(size) in ops or experiment == "digits"
        assert config_defaults.complete(read(experiment, [*words, "runlocal"])).total_steps == 3


def test_a_folder_can_be_fine_tuned_on(tmp_path):
    assert read("vit", ["s16", str(tmp_path)]).dataset == str(tmp_path)


@pytest.mark.parametrize(
    ("experiment", "text", "message"),
    [
        ("vit", "b61,cifar10", "argument MODEL is 'b61'.*Did you mean 'b16'"),
        ("vit", "b16,cifar1", "Did you mean 'cifar10'"),
        ("vit", "b16", "expected 'MODEL,DATASET'"),
        ("vit", "b16,cifar10,runlocl", "runlocl"),
        ("augreg", "R_Ti_61", "argument MODEL_OR_FILENAME is 'R_Ti_61'.*Did you mean 'R_Ti_16'"),
        ("augreg_i21k", "b16,medum1", "argument AUGMENTATION is 'medum1'.*Did you mean 'medium1'"),
        ("mixer", "mixer_b61", "argument MODEL is 'mixer_b61'.*Did you mean 'mixer_b16'"),
        ("vit_s16_i1k", "900", "argument EPOCHS is '900'.*Did you mean '90'"),
        ("vit_s16_i1k", "runlocl", "argument EPOCHS is 'runlocl'.*Did you mean 'runlocal'"),
        ("sam_i1k", "b32,gsma", "argument METHOD is 'gsma'.*Did you mean 'gsam'"),
        ("digits", "x", "expected ''"),
    ],
)
def test_wrong_arguments(experiment, text, message):
    with pytest.raises(ValueError, match=message):
        read(experiment, [text])


def test_recipes():
    """Figures of the published recipes that are easily got wrong."""
    augreg = read("augreg_i21k", ["l16"])
    assert augreg.weight_decay == pytest.approx(0.1 * augreg.base_lr)
    assert "randaug(2, 20)" in augreg.pp.train_ops
    assert (augreg.mixup, augreg.head_bias, augreg.loss) == (0.5, -10.0, "sigmoid")
    s16 = read("vit_s16_i1k")
    assert config_defaults.complete(s16).total_epochs == 90
    assert get_workload(s16).total_steps == pytest.approx(90 * 0.99 * 1_281_167 / 1024, abs=1)
    deit = read("deit_i1k")
    assert (deit.total_steps, deit.warmup_steps, deit.base_lr) == (93_600, 1_560, 4e-3)
    assert read("vit", ["b16", "cifar10"]).base_lr == 0.01
    assert read("vit", ["b16", "cifar100"]).base_lr == 0.03
    assert read("vit", ["mixer_l16", "cifar100"]).pp.crop == 224
    filename = "R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
    assert read("augreg", [filename]).model_or_filename == filename


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "text"), [(name, text) for name in EXPERIMENTS for text in RUNS[name]]
)
def test_run_locally(experiment, text, tmp_path):
    config = read(experiment, [text, "runlocal"])
    config.strategy = "one_device"
    if experiment.startswith("flexivit"):
        config.dtype = "float32"  # in which two ways of resizing can be compared
    before = {}

    def remember(model):
        named = vit_keras.checkpoints.named_weights(model)
        before.update({name: np.array(weight) for name, weight in named.items()})

    with pytest.MonkeyPatch.context() as patch:
        from vit_keras.training import experiment as engine

        build = engine.build_model

        def build_and_remember(*args):
            model = build(*args)
            remember(model)
            return model

        patch.setattr(engine, "build_model", build_and_remember)
        result = train(config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == result.step == config.total_steps
    assert all(map(math.isfinite, losses))
    evaluated = {name: value for name, value in result.metrics.items() if name.startswith("test")}
    assert evaluated
    assert all(map(math.isfinite, evaluated.values()))
    after = vit_keras.checkpoints.named_weights(result.model)
    changed = {n for n, weight in after.items() if not np.array_equal(np.array(weight), before[n])}
    frozen = {name for name in after if any(re.match(p, name) for p in config.frozen)}
    assert changed
    assert not changed & frozen
    _check_saved(result.model, tmp_path, config.dtype)
    if experiment.startswith("siglip"):
        assert {"t", "b", "txt/head/kernel"} <= changed
        assert 0 <= result.metrics["test/zeroshot"] <= 1
    if experiment.startswith("flexivit"):
        assert 0 <= result.metrics["test_patch16/accuracy"] <= 1
        _check_flexible(result.model, tmp_path)


def _check_saved(model, folder, dtype):
    """The checkpoint of the trained model holds all that it learned."""
    vit_keras.save_npz(model, folder / "saved.npz")
    rng = np.random.default_rng(0)
    if isinstance(model.output, dict):
        shape = model.get_layer("img").input_shape
        again = vit_keras.from_npz(folder / "saved.npz", dtype=dtype)
        inputs = {
            "image": rng.uniform(-1, 1, (2, *shape[1:])).astype(np.float32),
            "tokens": rng.integers(0, 20, (2, 8)).astype(np.int32),
        }
        for key, value in model(inputs).items():
            np.testing.assert_allclose(again(inputs)[key], value, rtol=1e-4, atol=1e-5)
        return
    shape = model.input_shape
    again = vit_keras.from_npz(folder / "saved.npz", image_size=shape[1], dtype=dtype)
    images = rng.uniform(-1, 1, (2, *shape[1:])).astype(np.float32)
    np.testing.assert_allclose(again(images), model(images), rtol=1e-4, atol=1e-5)


def _check_flexible(model, folder):
    """The saved checkpoint gives at any patch size what training computes there."""
    vit_keras.save_npz(model, folder / "flexible.npz")
    images = np.random.default_rng(0).uniform(-1, 1, (2, *model.input_shape[1:])).astype("float32")
    for patch in (8, 32):
        again = vit_keras.from_npz(
            folder / "flexible.npz",
            patch_size=patch,
            image_size=model.input_shape[1],
        )
        logits = at_patch_size(model, patch)(images)
        assert np.abs(logits).max() > 0
        np.testing.assert_allclose(again(images), logits, atol=1e-5)


def test_experiments_take_text_only():
    for experiment in EXPERIMENTS:
        module = __import__(f"tpu_configs.{experiment}", fromlist=["get_config"])
        assert len(inspect.signature(module.get_config).parameters) == 1
    assert tf.io.gfile.exists(str(FOLDER / "vocabularies" / "digits.txt"))
