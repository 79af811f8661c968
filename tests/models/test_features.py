"""What happens inside a model, without surgery."""

from pathlib import Path

import keras
import numpy as np
import pytest

import vit_keras

GOLDENS = Path(__file__).parents[1] / "goldens"


def model_and_images(case, **options):
    images = np.load(GOLDENS / case / "expected.npz")["images_uint8"]
    model = vit_keras.from_npz(GOLDENS / case / "checkpoint.npz", **options)
    return model, (images.astype(np.float32) - 127.5) / 127.5


def test_tokens_and_attention_weights():
    model, images = model_and_images("bv_tok_learn")
    tap = vit_keras.features(model)
    assert isinstance(tap, keras.Model)
    found = tap.predict(images, verbose=0)
    assert list(found) == [
        "encoderblock_0",
        "encoderblock_0_attention_weights",
        "encoderblock_1",
        "encoderblock_1_attention_weights",
        "encoded",
        "pre_logits",
        "logits",
    ] or set(found) >= {"encoderblock_0", "encoded", "logits"}
    assert found["encoderblock_1"].shape == (2, 17, 32)
    weights = found["encoderblock_1_attention_weights"]
    assert weights.shape == (2, 4, 17, 17)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    np.testing.assert_allclose(found["logits"], model(images), atol=1e-5)
    # The tokens after the last block are what the last norm sees.
    normed = model.get_layer("encoder_norm")(found["encoderblock_1"])
    np.testing.assert_allclose(normed, found["encoded"], atol=1e-5)
    np.testing.assert_allclose(found["encoded"][:, 0], found["pre_logits"], atol=1e-6)


@pytest.mark.parametrize(
    "case", ["bv_map_learn", "mixer", "hybrid_stem_only", "vit_token_legacy_prelogits"]
)
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_after_load_model_in_every_policy(case, dtype, tmp_path):
    model, images = model_and_images(case, dtype=dtype)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    before, after = vit_keras.features(model)(images), vit_keras.features(again)(images)
    assert before.keys() == after.keys()
    for key, value in before.items():
        np.testing.assert_array_equal(
            np.asarray(value, np.float32), np.asarray(after[key], np.float32)
        )
    # From the last norm on nothing is rounded.
    assert before["logits"].dtype == before["encoded"].dtype == "float32"
    block = "MixerBlock_0" if case == "mixer" else "encoderblock_0"
    assert before[block].dtype == ("float32" if dtype == "float32" else "bfloat16")


def test_the_tap_itself_is_saved(tmp_path):
    model, images = model_and_images("vit_token_linen")
    tap = vit_keras.features(model)
    tap.save(tmp_path / "tap.keras")
    again = keras.models.load_model(tmp_path / "tap.keras")
    for key, value in tap(images).items():
        np.testing.assert_array_equal(again(images)[key], value)


def test_weights_are_shared_and_the_model_is_untouched():
    model, images = model_and_images("vit_token_linen")
    tap = vit_keras.features(model)
    model.get_layer("head").set_weights([np.zeros((32, 5)), np.arange(5)])
    np.testing.assert_array_equal(tap(images)["logits"][0], np.arange(5))
    assert model.get_layer("encoder_norm").output is not None  # still one node


def test_models_it_can_t_follow():
    model, _ = model_and_images("lit_two_towers_tok_last")
    with pytest.raises(ValueError, match="get_layer"):
        vit_keras.features(model)
    assert "encoded" in vit_keras.features(model.get_layer("img")).output
