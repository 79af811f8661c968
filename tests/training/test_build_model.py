"""The model that a config describes, fresh or from a file."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest

import vit_keras
from vit_keras.checkpoints.augreg_index import AugRegRow
from vit_keras.training import config_defaults
from vit_keras.training.build_model import build_model, build_teacher, checkpoint_path

STEM = "Ti_16-i21k-300ep-lr_0.001-aug_{}-wd_0.1-do_0.0-sd_0.0"


def config(**changes):
    complete = config_defaults.get_config()
    with complete.ignore_type():
        complete.update(changes)
    complete.pp.crop = 32
    return complete


@pytest.fixture
def augreg(tmp_path, goldens):
    """A folder as AugReg's bucket is: an index, and the files it speaks of."""
    names = [field.name for field in dataclasses.fields(AugRegRow)]
    with open(tmp_path / "index.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for aug, ds, val in (
            ("none", "i21k", 0.3),
            ("light1", "i21k", 0.5),
            ("strong1", "i21k", ""),
            ("light2", "i1k", 0.9),
        ):
            stem = STEM.format(aug).replace("i21k", ds)
            writer.writerow({"name": "Ti/16", "ds": ds, "final_val": val, "filename": stem})
            shutil.copy(goldens / "vit_token_legacy" / "checkpoint.npz", tmp_path / f"{stem}.npz")
        writer.writerow({"name": "S/16", "ds": "i1k", "final_val": 0.1, "filename": "S_16-i1k-x"})
    return tmp_path


def test_the_best_of_augreg_by_its_index(augreg):
    chosen = config(pretrained_dir=str(augreg), model_or_filename="Ti_16")
    assert checkpoint_path(chosen, "x") == str(augreg / (STEM.format("light1") + ".npz"))
    assert build_model(chosen, 7).output_shape == (None, 7)
    whole = config(pretrained_dir=str(augreg), model_or_filename=STEM.format("none"))
    assert checkpoint_path(whole, "x") == str(augreg / (STEM.format("none") + ".npz"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("Ti_61", "config.model_or_filename is 'Ti_61'.*Did you mean 'Ti_16'"),
        ("S_16", "no ImageNet-21k checkpoint"),
        (STEM.format("medium1"), r"There is no .*medium1.*\.npz"),
    ],
)
def test_what_augreg_hasn_t(augreg, model, message):
    with pytest.raises(ValueError, match=message):
        checkpoint_path(config(pretrained_dir=str(augreg), model_or_filename=model), "x")


def test_an_augreg_model_without_its_index(tmp_path):
    with pytest.raises(ValueError, match=r"index\.csv, but there is no such file.*vit_models"):
        checkpoint_path(config(pretrained_dir=str(tmp_path), model_or_filename="Ti_16"), "x")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"model_name": "mu/16", "clasifier": "gap"}, "Did you mean 'model.classifier'"),
        ({"model_name": "mu/61x"}, "variant is 'mu/61x'"),
        ({"model_name": "mu/16", "image_weights": "a.npz"}, "two towers"),
        (
            {"model_name": "SigLIP-B/16", "text": {"hiden_size": 8}},
            "config key is 'model.text.hiden_size'.*Did you mean 'model.text.hidden_size'",
        ),
    ],
)
def test_wrong_facts_of_fresh_models(model, message):
    with pytest.raises(ValueError, match=message):
        build_model(config(pretrained_dir=None, model=model), 3)


def test_facts_of_each_family():
    small = {"hidden_size": 32, "num_layers": 1}
    vit = {**small, "mlp_dim": 64, "num_heads": 2}
    hybrid = {"model_name": "R50+ViT-L_32", **vit, "stem": (1, 1, 1, 1)}
    model = build_model(config(pretrained_dir=None, model=hybrid), 3)
    assert len([name for name in model.layers if "unit" in name.name]) == 4
    mixer = {"model_name": "Mixer-B_16", **small, "tokens_mlp_dim": 8, "channels_mlp_dim": 16}
    assert build_model(config(pretrained_dir=None, model=mixer), 3).output_shape == (None, 3)


def test_towers_and_a_locked_image_tower(tmp_path):
    blocks = {"hidden_size": 32, "mlp_dim": 64, "num_heads": 2, "num_layers": 1}
    image = vit_keras.create_model("mu/16", image_size=48, classes=9, name="published")
    image.get_layer("cls").token.assign(np.full((1, 1, 32), 0.5, np.float32))
    vit_keras.save_npz(image, tmp_path / "image.npz")
    towers = {
        "model_name": "LiT-B16B_2",
        "image": {**blocks, "mlp_dim": 128},
        "text": {**blocks, "vocab_size": 9, "classes": 32},
        "has_bias": True,
        "initial_bias": -2.71,
        "image_weights": str(tmp_path / "image.npz"),
    }
    weights = vit_keras.checkpoints.named_weights(
        build_model(config(pretrained_dir=None, model=towers), 1)
    )
    np.testing.assert_array_equal(weights["img/cls"], np.full((1, 1, 32), 0.5))
    np.testing.assert_allclose(weights["b"], [-2.71], rtol=1e-6)
    assert np.abs(np.array(weights["txt/head/kernel"])).max() > 0
    assert "img/head/kernel" not in weights


def test_the_head_may_stay(tmp_path):
    model = vit_keras.create_model("mu/16", image_size=32, classes=3)
    model.get_layer("head").bias.assign([1.0, 2.0, 3.0])
    vit_keras.save_npz(model, tmp_path / "model.npz")
    kept = config(pretrained_dir=str(tmp_path), model_or_filename="model", reset_head=False)
    np.testing.assert_array_equal(build_model(kept, 3).get_layer("head").bias, [1.0, 2.0, 3.0])
    kept.reset_head = True
    np.testing.assert_array_equal(build_model(kept, 3).get_layer("head").bias, [0.0] * 3)


def test_a_teacher_of_other_classes(tmp_path):
    vit_keras.save_npz(vit_keras.create_model("mu/16", 32, 4), tmp_path / "teacher.npz")
    assert build_teacher(config(), 4) is None
    asked = config(teacher=str(tmp_path / "teacher.npz"), teacher_size=48)
    assert build_teacher(asked, 4).input_shape == (None, 48, 48, 3)
    with pytest.raises(ValueError, match=r"config\.teacher has 4 classes; expected the 5"):
        build_teacher(asked, 5)
