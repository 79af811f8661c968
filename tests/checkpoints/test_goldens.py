"""Every golden checkpoint: outputs as the JAX reference has them, and back to the same file."""

import json
from pathlib import Path

import numpy as np
import pytest

import vit_keras

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = sorted(
    path.parent.name
    for path in GOLDENS.glob("*/config.json")
    if not path.parent.name.startswith("train_")
)
IMAGE_CASES = [case for case in CASES if "two_towers" not in case]
TWO_TOWER_CASES = [case for case in CASES if "two_towers" in case]
INSIDE_CASES = [case for case in CASES if case.startswith("bv_")]


def load(case, **options):
    """The model of a case, and what is expected of it."""
    config = json.loads((GOLDENS / case / "config.json").read_text())
    if config.get("posemb") == "sincos2d":
        options.setdefault("image_size", tuple(config["image_size"]))
    if "unpooled" in config.get("classifier", ""):
        options.setdefault("classifier", config["classifier"])
    expected = dict(np.load(GOLDENS / case / "expected.npz"))
    expected["images"] = (expected["images_uint8"].astype(np.float32) - 127.5) / 127.5
    return vit_keras.from_npz(GOLDENS / case / "checkpoint.npz", **options), expected


def outputs(model, expected):
    images = expected["images"]
    if "tokens" in expected:
        return model({"image": images, "tokens": expected["tokens"]})
    return {"logits": model(images)}


def largest_difference(actual, expected):
    return np.max(np.abs(np.asarray(actual) - expected)) / np.max(np.abs(expected))


def same_file(path, other):
    first, second = dict(np.load(path)), dict(np.load(other))
    assert first.keys() == second.keys()
    for key, array in first.items():
        assert array.shape == second[key].shape, key
        assert array.tobytes() == second[key].tobytes(), key


def test_there_are_cases_of_every_family():
    families = {vit_keras.models.family(config_of(case)) for case in CASES}
    assert families == {"vit", "hybrid", "mixer", "two_towers"}


def config_of(case):
    return vit_keras.checkpoints.describe(GOLDENS / case / "checkpoint.npz", 32).config


@pytest.mark.parametrize("case", IMAGE_CASES)
def test_logits_and_the_way_back(case, tmp_path):
    model, expected = load(case)
    assert largest_difference(outputs(model, expected)["logits"], expected["logits"]) <= 1e-5
    vit_keras.save_npz(model, tmp_path / "again.npz")
    same_file(GOLDENS / case / "checkpoint.npz", tmp_path / "again.npz")


@pytest.mark.parametrize("case", TWO_TOWER_CASES)
def test_two_towers_and_the_way_back(case, tmp_path):
    model, expected = load(case)
    found = outputs(model, expected)
    for key in ("zimg", "ztxt", "temperature", "similarity_logits"):
        assert found[key].shape == expected[key].shape
        assert largest_difference(found[key], expected[key]) <= 1e-5, key
    assert ("bias" in found) == json.loads((GOLDENS / case / "config.json").read_text())["has_bias"]
    vit_keras.save_npz(model, tmp_path / "again.npz")
    same_file(GOLDENS / case / "checkpoint.npz", tmp_path / "again.npz")


@pytest.mark.parametrize("case", INSIDE_CASES)
def test_encoded_and_pre_logits(case):
    model, expected = load(case)
    inside = vit_keras.features(model)(expected["images"])
    for key in ("encoded", "pre_logits", "logits"):
        assert largest_difference(inside[key], expected[key]) <= 1e-5, key


@pytest.mark.parametrize("naming", ["legacy", "linen", "big_vision"])
@pytest.mark.parametrize(
    "case",
    [
        "vit_token_legacy",
        "bv_tok_learn",
        "bv_map_scan",
        "hybrid_stages_legacy_gn4d",
        "mixer",
        *TWO_TOWER_CASES,
    ],
)
def test_conversion_between_namings(case, naming, tmp_path):
    model, expected = load(case)
    vit_keras.save_npz(model, tmp_path / "converted.npz", naming=naming)
    converted = vit_keras.from_npz(tmp_path / "converted.npz")
    before, after = outputs(model, expected), outputs(converted, expected)
    for key, value in before.items():
        assert largest_difference(after[key], np.asarray(value)) <= 1e-5, key
    assert vit_keras.checkpoints.describe(tmp_path / "converted.npz").prefix == ""


@pytest.mark.parametrize("case", ["bv_map_learn", "vit_token_linen", *TWO_TOWER_CASES])
def test_blocks_can_be_stacked_and_unstacked(case, tmp_path):
    model, expected = load(case)
    scanned, loop = tmp_path / "scanned.npz", tmp_path / "loop.npz"
    vit_keras.save_npz(model, scanned, scan=True)
    assert not any("encoderblock_" in key for key in np.load(scanned).files)
    again = vit_keras.from_npz(scanned)
    for key, value in outputs(model, expected).items():
        np.testing.assert_array_equal(outputs(again, expected)[key], value)
    vit_keras.save_npz(again, scanned.with_name("scanned_again.npz"))
    same_file(scanned, scanned.with_name("scanned_again.npz"))
    vit_keras.save_npz(again, loop, scan=False)
    same_file(loop, GOLDENS / case / "checkpoint.npz")


def test_the_scanned_case_stacks_the_loop(tmp_path):
    model, _ = load("bv_map_scan")
    vit_keras.save_npz(model, tmp_path / "loop.npz", scan=False)
    loop = np.load(tmp_path / "loop.npz")
    scanned = np.load(GOLDENS / "bv_map_scan" / "checkpoint.npz")
    key = "Transformer/encoderblock{}/MlpBlock_0/Dense_0/kernel"
    np.testing.assert_array_equal(loop[key.format("_1")], scanned[key.format("")][1])


def test_prefix_of_ones_own(tmp_path):
    model, expected = load("vit_token_linen")
    vit_keras.save_npz(model, tmp_path / "model.npz", naming="big_vision", prefix="params/")
    assert all(key.startswith("params/") for key in np.load(tmp_path / "model.npz").files)
    again = vit_keras.from_npz(tmp_path / "model.npz")
    found = outputs(again, expected)["logits"]
    assert largest_difference(found, expected["logits"]) <= 1e-5


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.removeprefix("MAPHead_0/"),
        # As Flax numbered submodules before linen.
        lambda key: (
            key.replace("MAPHead_0/LayerNorm_0", "LayerNorm_1")
            .replace("MAPHead_0/MlpBlock_0", "MlpBlock_2")
            .removeprefix("MAPHead_0/")
        ),
        lambda key: key.replace("pos_embedding", "Transformer/pos_embedding"),
        lambda key: "opt/target/" + key,
        lambda key: "img/" + key,
    ],
    ids=["inlined", "inlined_legacy", "positions_in_encoder", "opt_target", "img"],
)
def test_oddities_of_names_are_read_and_written_back(rename, tmp_path):
    arrays = dict(np.load(GOLDENS / "bv_map_learn" / "checkpoint.npz"))
    np.savez(tmp_path / "odd.npz", **{rename(key): array for key, array in arrays.items()})
    _, expected = load("bv_map_learn")
    model = vit_keras.from_npz(tmp_path / "odd.npz")
    assert largest_difference(model(expected["images"]), expected["logits"]) <= 1e-5
    vit_keras.save_npz(model, tmp_path / "again.npz")
    same_file(tmp_path / "odd.npz", tmp_path / "again.npz")


def test_positions_that_were_added_after_the_class_token(tmp_path):
    """big_vision before 2022: one more position, in the encoder."""
    arrays = dict(np.load(GOLDENS / "vit_token_linen" / "checkpoint.npz"))
    old = "Transformer/posembed_input/pos_embedding"
    arrays["Transformer/pos_embedding"] = arrays.pop(old)
    np.savez(tmp_path / "old.npz", **arrays)
    _, expected = load("vit_token_linen")
    model = vit_keras.from_npz(tmp_path / "old.npz")
    assert largest_difference(model(expected["images"]), expected["logits"]) <= 1e-5
    vit_keras.save_npz(model, tmp_path / "again.npz")
    same_file(tmp_path / "old.npz", tmp_path / "again.npz")


@pytest.mark.parametrize(
    ("case", "order"),
    [("vit_token_legacy", "learned_before_class_token"), ("bv_tok_learn", "learned")],
)
def test_class_token_order_is_converted_while_loading(case, order):
    _, expected = load(case)
    config = config_of(case).replace(pos_embedding=order)
    model = vit_keras.models.build(config)
    vit_keras.load_npz(model, GOLDENS / case / "checkpoint.npz")
    assert largest_difference(model(expected["images"]), expected["logits"]) <= 1e-5
