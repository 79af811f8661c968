"""The command line, end to end, on small real data."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import vit_keras
from vit_keras.main import main

CONFIG = """
from vit_keras.training import config_defaults

def get_config(dataset=""):
    config = config_defaults.get_config()
    config.dataset = dataset
    config.model.model_name = "tiny"
    config.pp.crop = 32
    config.shuffle_buffer = 50
    config.batch = 8
    config.accum_steps = 2
    config.total_steps = 6
    config.warmup_steps = 2
    config.eval_every = 3
    config.checkpoint_every = 2
    config.progress_every = 1
    config.batch_eval = 5
    return config
"""


class Stripes(tfds.core.GeneratorBasedBuilder):
    """Made-up images: stripes along, or across."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["along", "across"]),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(20), "test": self._generate_examples(9)}

    def _generate_examples(self, count):
        for index in range(count):
            image = np.zeros((24, 24, 3), np.uint8)
            stripes = image if index % 2 else image.swapaxes(0, 1)
            stripes[::4] = 255
            yield index, {"image": image, "label": index % 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with a checkpoint tiny.npz (pretrained_dir) and a config.py."""
    folder = tmp_path_factory.mktemp("place")
    config = vit_keras.models.ViTConfig(16, 32, 2, 2, patch_size=8, image_size=16, classes=3)
    vit_keras.save_npz(vit_keras.models.build_vit(config), folder / "tiny.npz")
    (folder / "config.py").write_text(CONFIG)
    return folder


def train_arguments(place, dataset, workdir, *changes):
    return [
        "train",
        f"--config={place / 'config.py'}:{dataset}",
        f"--workdir={workdir}",
        f"--config.pretrained_dir={place}",
        f"--config.tfds_data_dir={place / 'data'}",
        *changes,
    ]


@pytest.fixture(scope="module")
def trained(place, photo_folder):
    """A finished run on the folder of photos."""
    workdir = place / "run"
    assert main(train_arguments(place, photo_folder, workdir)) == 0
    return workdir


@pytest.mark.slow
def test_train_writes_every_form_and_says_where(trained, place, photo_folder, capsys):
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert main(train_arguments(place, photo_folder, trained)) == 0
    said = capsys.readouterr().out
    assert "already finished" in said
    assert "of all 14 test images" in said
    for name in ("model.keras", "saved_model", "model.npz"):
        assert (trained / name).exists()
        assert str(trained / name) in said
    after = {path: path.stat().st_mtime_ns for path in trained.rglob("*") if path.is_file()}
    assert after == before
    assert (trained / "class_names.txt").read_text().split() == ["china", "flower"]
    assert list((trained / "tensorboard").rglob("events.out.tfevents.*"))


@pytest.mark.slow
def test_all_forms_agree(trained):
    images = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)
    model = tf.keras.models.load_model(trained / "model.keras")
    expected = model.predict(images, verbose=0)
    npz = vit_keras.from_npz(trained / "model.npz").predict(images, verbose=0)
    served = tf.saved_model.load(str(trained / "saved_model")).signatures["serving_default"]
    np.testing.assert_array_equal(npz, expected)
    np.testing.assert_allclose(served(image=tf.constant(images))["logits"], expected, atol=1e-6)


@pytest.mark.slow
def test_evaluate_counts_every_image(trained, photo_folder, place, capsys):
    assert main(["evaluate", str(trained)]) == 0
    said = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(said["test/examples"]) == 14
    result = json.loads((trained / "result.json").read_text())
    assert float(said["test/accuracy"]) == pytest.approx(result["test/accuracy"], abs=1e-5)
    # Another batch size, and the checkpoint instead of the Keras model: the same numbers.
    arguments = [f"--config={place / 'config.py'}:{photo_folder}", "--config.batch_eval=3"]
    assert main(["evaluate", str(trained / "model.npz"), *arguments]) == 0
    again = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(again["test/loss"]) == pytest.approx(float(said["test/loss"]), rel=1e-4)


@pytest.mark.slow
def test_predict_names_classes_and_probabilities(trained, photo_folder, capsys):
    image = photo_folder / "test" / "flower" / "0.png"
    assert main(["predict", str(trained), str(image), str(image), "--top=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[3] == str(image)
    shares = [float(line.split("%")[0]) for line in lines[1:3]]
    assert sum(shares) == pytest.approx(100, abs=0.02)
    assert shares[0] >= shares[1]
    assert {line.split("%")[1].strip() for line in lines[1:3]} == {"china", "flower"}


@pytest.mark.slow
@pytest.mark.parametrize("target", ["out.npz", "out.keras", "out.weights.h5", "served"])
def test_export(trained, tmp_path, target, capsys):
    assert main(["export", str(trained / "model.npz"), str(tmp_path / target)]) == 0
    assert (tmp_path / target).exists()
    if target == "out.npz":
        with np.load(tmp_path / target) as ours, np.load(trained / "model.npz") as original:
            assert all((ours[name] == original[name]).all() for name in original)
    assert main(["export", str(trained / "model.npz"), str(tmp_path / target)]) == 2
    assert "exists; --overwrite replaces it" in capsys.readouterr().err
    assert main(["export", str(trained / "model.npz"), str(tmp_path / target), "--overwrite"]) == 0


@pytest.mark.slow
def test_train_on_a_tfds_data_set_by_name(place, tmp_path, capsys):
    Stripes(data_dir=place / "data").download_and_prepare()
    assert main(train_arguments(place, "stripes", tmp_path, "--config.pp.test=test[:7]")) == 0
    assert "of all 7 test images" in capsys.readouterr().out


@pytest.mark.slow
def test_two_starts_end_where_one_ends(place, photo_folder, tmp_path):
    # The second run is stopped once; both have dropout, so the random state must be resumed too.
    changes = ["--config.model.dropout=0.1", "--config.eval_every=0"]
    assert main(train_arguments(place, photo_folder, tmp_path / "whole", *changes)) == 0
    command = [sys.executable, "-c", STOP_AFTER_FOUR_STEPS]
    arguments = train_arguments(place, photo_folder, tmp_path / "halves", *changes)
    stopped = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    assert stopped.returncode == 75, stopped.stderr
    assert main(arguments) == 0
    with (
        np.load(tmp_path / "whole" / "model.npz") as whole,
        np.load(tmp_path / "halves" / "model.npz") as halves,
    ):
        for name in whole:
            np.testing.assert_array_equal(whole[name], halves[name])


# What `kill` does to a process, at a moment that doesn't depend on the machine's speed.
STOP_AFTER_FOUR_STEPS = """
import os, signal, sys
from vit_keras.main import main
from vit_keras.training import train_loop
save = train_loop.TrainLoop.save
def save_then_signal(self, step):
    path = save(self, step)
    if step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return path
train_loop.TrainLoop.save = save_then_signal
sys.exit(main(sys.argv[1:]))
"""


def test_inspect_says_what_a_file_holds(place, goldens, capsys):
    file = goldens / "vit_token_opt_target_prefix" / "checkpoint.npz"
    assert main(["inspect", str(place / "tiny.npz"), str(file)]) == 0
    said = capsys.readouterr().out
    assert "legacy" in said
    assert "all zeros" in said  # of tiny.npz, which was never trained
    assert "opt/target/" in said


def test_predict_announces_a_head_of_zeros(place, photo_folder, capsys):
    image = photo_folder / "test" / "china" / "1.jpg"
    assert main(["predict", str(place / "tiny.npz"), str(image)]) == 0
    captured = capsys.readouterr()
    assert "all zeros" in captured.err
    assert captured.out.count("33.33 %") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--workdir=W"], "--config is missing"),
        (["train", "--workdir=W", "--config=C", "--config.bach=3"], "Did you mean 'batch'?"),
        (["train", "--workdir=W", "--config=C", "--config.pp.corp=3"], "Did you mean 'pp.crop'?"),
        (["train", "--workdir=W", "--config=C", "--config.batch=many"], "invalid literal"),
        (["train", "--workdir=W", "--config=C", "--batch=3"], "expected --config.key=value"),
        (["train", "--workdir=W", "--config=nowhere.py"], "there is no such file"),
        (["train", "--workdir=W", "--config=tpu_configs/vit2.py"], "tpu_configs/vit.py"),
        (["train", "--workdir=W", "--config=tpu_configs/vit.py:b16"], "expected 'MODEL,DATASET'"),
        (["train", "--workdir=W", "--config=tpu_configs/vit.py:b16,cifr10"], "'cifar10'"),
        (["train", "--workdir=W", "--config=C:D"], "nowhere"),
        (["predict", "nothing.keras", "x.jpg"], "there is no such file"),
        (["predict", "T", "nothing.jpg"], "nothing.jpg"),
        (["predict", "T", "C"], "is not an image"),
        (["predict", "T", "I", "--top=0"], "--top is 0"),
        (["predict", "T", "I", "--class_names=C"], "names; expected the model's 3"),
        (["predict", "C", "I"], "expected a .keras file"),
        (["evaluate", "T"], "--config is missing"),
        (["inspect", "C"], "not an .npz file"),
        (["export", "T", "missing/dir/x.npz"], "there is no"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_end_in_one_clear_message(
    arguments, message, place, photo_folder, tmp_path, capsys
):
    stand_for = {
        "--workdir=W": f"--workdir={tmp_path / 'work'}",
        "--config=C": f"--config={place / 'config.py'}",
        "--config=C:D": f"--config={place / 'config.py'}:nowhere",
        "C": str(place / "config.py"),
        "T": str(place / "tiny.npz"),
        "I": str(photo_folder / "test" / "china" / "1.jpg"),
        "--class_names=C": f"--class_names={place / 'config.py'}",
    }
    assert main([stand_for.get(argument, argument) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_help_from_the_shell():
    for arguments in (["--help"], ["train", "--help"]):
        command = [sys.executable, "-m", "vit_keras.main", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        assert "usage: vit-keras" in done.stdout
    assert "pretrained_dir" in done.stdout


@pytest.mark.slow
def test_a_bad_image_stops_the_run_or_is_skipped(place, photo_folder, tmp_path, capfd):
    folder = tmp_path / "photos"
    shutil.copytree(photo_folder, folder)
    bad = folder / "test" / "china" / "1.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    arguments = train_arguments(place, folder, tmp_path / "run")
    assert main(arguments) == 2
    said = capfd.readouterr().err
    assert str(bad) in said
    assert "Traceback" not in said
    skipping = train_arguments(place, folder, tmp_path / "other", "--config.on_bad_image=skip")
    assert main(skipping) == 0
    captured = capfd.readouterr()
    assert "of all 13 test images" in captured.out
    assert str(bad) in captured.err
