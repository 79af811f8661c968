"""Heads, dtypes, resolutions, patch sizes: what a reader may ask for."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import vit_keras
from vit_keras.checkpoints import named_weights
from vit_keras.checkpoints.npz_file import BFLOAT16

GOLDENS = Path(__file__).parents[1] / "goldens"


def path_of(case):
    return GOLDENS / case / "checkpoint.npz"


def images_of(case):
    images = np.load(GOLDENS / case / "expected.npz")["images_uint8"]
    return (images.astype(np.float32) - 127.5) / 127.5


def logits_of(case):
    return np.load(GOLDENS / case / "expected.npz")["logits"]


@pytest.mark.parametrize("case", ["vit_token_linen", "hybrid_stem_only", "mixer", "bv_map_scan"])
def test_heads(case):
    images, logits = images_of(case), logits_of(case)
    scale = np.abs(logits).max()
    kept = vit_keras.from_npz(path_of(case), classes=5)
    np.testing.assert_allclose(kept(images), logits, atol=1e-5 * scale)
    fresh = vit_keras.from_npz(path_of(case), classes=7)
    assert fresh.output_shape == (None, 7)
    assert not np.any(fresh(images))
    reset = vit_keras.from_npz(path_of(case), reset_head=True)
    assert not np.any(reset(images))
    assert vit_keras.checkpoints.head_is_zero(reset)
    assert not vit_keras.checkpoints.head_is_zero(kept)
    none = vit_keras.from_npz(path_of(case), classes=0)
    assert not any(layer.name == "head" for layer in none.layers)
    assert not vit_keras.checkpoints.head_is_zero(none)
    chosen = vit_keras.from_npz(path_of(case), classes=[3, 0])
    np.testing.assert_allclose(chosen(images), logits[:, [3, 0]], atol=1e-5 * scale)
    soft = vit_keras.from_npz(path_of(case), activation="softmax")
    np.testing.assert_allclose(soft(images), tf.nn.softmax(logits), atol=1e-5)


@pytest.mark.parametrize("classes", [[], [5], [-1], [0.5], -1, 2.5])
def test_classes_that_make_no_sense(classes):
    with pytest.raises(ValueError, match="classes is"):
        vit_keras.from_npz(path_of("vit_token_linen"), classes=classes)


def test_pre_logits_kept_or_dropped():
    path = path_of("vit_token_legacy_prelogits")
    dropped = vit_keras.from_npz(path, pre_logits=False)
    assert not any(layer.name == "pre_logits" for layer in dropped.layers)
    np.testing.assert_array_equal(dropped.layers[-1].kernel, np.load(path)["head/kernel"])
    kept = vit_keras.from_npz(path, classes=0)
    assert kept.layers[-1].name == "pre_logits"


def test_load_npz_into_a_model_with_another_head():
    model = vit_keras.from_npz(path_of("vit_token_linen"), classes=9)
    with pytest.raises(ValueError, match="head/bias: found"):
        vit_keras.load_npz(model, path_of("vit_token_legacy"))
    vit_keras.load_npz(model, path_of("vit_token_legacy"), reset_head=True)
    arrays = np.load(path_of("vit_token_legacy"))
    np.testing.assert_array_equal(named_weights(model)["cls"], arrays["cls"])
    assert vit_keras.checkpoints.head_is_zero(model)


@pytest.mark.parametrize("case", ["vit_token_legacy", "bv_map_scan", "lit_two_towers_tok_last"])
@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64", ">f4", "fortran", "compressed"])
def test_arrays_of_other_types(case, kind, tmp_path):
    """bfloat16 is written as numpy writes it, as raw 2-byte void."""
    arrays = dict(np.load(path_of(case)))

    def convert(array):
        if kind == "bfloat16":
            return array.astype(BFLOAT16).view("V2")
        if kind == "fortran":
            return np.asfortranarray(array)
        return array if kind == "compressed" else array.astype(kind)

    stored = {key: convert(array) for key, array in arrays.items()}
    (np.savez_compressed if kind == "compressed" else np.savez)(tmp_path / "model.npz", **stored)
    model = vit_keras.from_npz(tmp_path / "model.npz")
    vit_keras.save_npz(model, tmp_path / "again.npz")
    again = np.load(tmp_path / "again.npz")
    for key, array in stored.items():
        array = array.view(BFLOAT16) if kind == "bfloat16" else array
        np.testing.assert_array_equal(again[key], array.astype(np.float32))


@pytest.mark.parametrize(
    ("case", "prefix", "state"),
    [
        ("vit_token_opt_target_prefix", "", "opt/state/param_states/head/kernel/momentum"),
        ("vit_token_params_prefix", "", "opt/0/mu/head/kernel"),
        ("vit_token_linen", "", "opt_state/0/count"),
        ("lit_two_towers_tok_last", "", "opt/0/nu/txt/head/kernel"),
        ("lit_two_towers_tok_last", "", "chrono/accum_examples_seen"),
    ],
)
def test_optimizer_state_is_left_out(case, prefix, state, tmp_path):
    arrays = dict(np.load(path_of(case)))
    arrays[prefix + state] = np.ones((3, 3), np.float32)
    np.savez(tmp_path / "model.npz", **arrays)
    description = vit_keras.checkpoints.describe(tmp_path / "model.npz")
    assert description.ignored == (state,)
    model = vit_keras.from_npz(tmp_path / "model.npz")
    vit_keras.save_npz(model, tmp_path / "again.npz")
    assert set(np.load(tmp_path / "again.npz").files) == set(arrays) - {state}


@pytest.mark.parametrize("case", ["vit_token_legacy", "bv_tok_learn", "siglip_two_towers_map_last"])
def test_another_resolution(case):
    model = vit_keras.from_npz(path_of(case), image_size=(40, 64))
    names = named_weights(model)
    key = next(key for key in names if key.endswith("posembed_input/pos_embedding"))
    prefix = 1 if case == "vit_token_legacy" else 0
    assert names[key].shape == (1, prefix + 5 * 8, 32)
    stored = [
        a for k, a in np.load(path_of(case)).items() if "pos_embedding" in k and "txt" not in k
    ]
    new, old = names[key].numpy()[0, prefix:], stored[0][0, prefix:]
    # Aligned corners: the corners of the grid stay what they were.
    for n, o in ((0, 0), (7, 3), (-8, -4), (-1, -1)):
        np.testing.assert_allclose(new[n], old[o], atol=1e-6)
    np.testing.assert_array_equal(names[key].numpy()[0, :prefix], stored[0][0, :prefix])


def test_a_hybrid_at_another_resolution():
    model = vit_keras.from_npz(path_of("hybrid_stages_legacy_gn4d"), image_size=(64, 96))
    assert model.input_shape == (None, 64, 96, 3)
    assert model.get_layer("posembed_input").grid_size == (4, 6)
    assert model(np.zeros((1, 64, 96, 3), np.float32)).shape == (1, 5)


def test_a_grid_that_isn_t_square_is_kept_where_it_fits(tmp_path):
    config = vit_keras.models.ViTConfig(32, 48, 4, 1, 8, (16, 48), classes=3)
    model = vit_keras.models.build(config)
    vit_keras.save_npz(model, tmp_path / "model.npz")
    with pytest.raises(ValueError, match="12 patches"):
        vit_keras.from_npz(tmp_path / "model.npz")
    again = vit_keras.from_npz(tmp_path / "model.npz", image_size=(16, 48))
    key = "Transformer/posembed_input/pos_embedding"
    np.testing.assert_array_equal(named_weights(again)[key], named_weights(model)[key])


def test_patches_that_aren_t_square(tmp_path):
    config = vit_keras.models.ViTConfig(32, 48, 4, 1, (8, 4), 32, classes=3)
    model = vit_keras.models.build(config)
    vit_keras.save_npz(model, tmp_path / "model.npz")
    with pytest.raises(ValueError, match=r"patch_size=\(8, 4\)"):
        vit_keras.from_npz(tmp_path / "model.npz")
    again = vit_keras.from_npz(tmp_path / "model.npz", image_size=32, patch_size=(8, 4))
    vit_keras.load_npz(again, tmp_path / "model.npz")
    for key, weight in named_weights(again).items():
        np.testing.assert_array_equal(weight, named_weights(model)[key])


def test_flexi_patch_size_of_a_checkpoint():
    """Every other pixel doubled: tokens, and so logits, stay what they were (arXiv 2212.08013)."""
    case = "bv_gap_learn"
    model = vit_keras.from_npz(path_of(case), image_size=64, patch_size=16)
    assert model.get_layer("embedding").patch_size == (16, 16)
    assert model.get_layer("posembed_input").grid_size == (4, 4)
    images = images_of(case)
    patches = images.reshape(2, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 3)
    patches = tf.image.resize(patches, (16, 16)).numpy()
    larger = patches.reshape(2, 4, 4, 16, 16, 3).transpose(0, 1, 3, 2, 4, 5).reshape(2, 64, 64, 3)
    logits = logits_of(case)
    np.testing.assert_allclose(model(larger), logits, atol=1e-4 * np.abs(logits).max())


def test_flexi_patch_size_of_create_model(tmp_path):
    small = vit_keras.create_model("mu/16", image_size=64, classes=3)
    vit_keras.save_npz(small, tmp_path / "mu.npz")
    model = vit_keras.create_model("mu/16", 64, weights=tmp_path / "mu.npz", patch_size=8)
    assert model.get_layer("embedding").patch_size == (8, 8)
    assert model.output_shape == (None, 3)
    with pytest.raises(ValueError, match="embedding/kernel: found"):
        vit_keras.load_npz(model, tmp_path / "mu.npz")
    vit_keras.load_npz(model, tmp_path / "mu.npz", resize_patches=True)


def test_create_model_with_weights(tmp_path):
    original = vit_keras.create_model("mu/16", image_size=64, classes=3, representation_size=20)
    original.get_layer("head").set_weights([np.ones((20, 3)), np.arange(3)])
    path = tmp_path / "mu.npz"
    vit_keras.save_npz(original, path)
    model = vit_keras.create_model("ViT-mu_16", weights=path)
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_array_equal(model(images), original(images))
    assert vit_keras.create_model("mu/16", 32, 7, weights=path).output_shape == (None, 7)
    for wrong, options in (
        ("hidden_size", {"variant": "Ti/16"}),
        ("patch_size", {"variant": "mu/8"}),
        ("family", {"variant": "Mixer-B/16"}),
        ("channels", {"variant": "mu/16", "channels": 1}),
        ("pos_embedding", {"variant": "mu/16", "pos_embedding": "sincos2d"}),
        ("representation_size", {"variant": "mu/16", "representation_size": 7}),
    ):
        with pytest.raises(ValueError, match=wrong):
            vit_keras.create_model(weights=path, **options)


def test_layer_scale_is_found(tmp_path):
    model = vit_keras.create_model("mu/16", image_size=32, classes=3, layer_scale=0.25)
    vit_keras.save_npz(model, tmp_path / "model.npz")
    again = vit_keras.from_npz(tmp_path / "model.npz")
    key = "Transformer/encoderblock_0/LayerScale_1/gamma"
    np.testing.assert_array_equal(named_weights(again)[key], np.full(32, 0.25, np.float32))


@pytest.mark.parametrize("case", ["mixer", "hybrid_stem_only", "siglip_two_towers_map_last"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_saved_and_loaded_by_keras(case, dtype, tmp_path):
    model = vit_keras.from_npz(path_of(case), dtype=dtype)
    expected = np.load(GOLDENS / case / "expected.npz")
    inputs = images_of(case)
    if "tokens" in expected:
        inputs = {"image": inputs, "tokens": expected["tokens"]}
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    tf.nest.map_structure(np.testing.assert_array_equal, model(inputs), again(inputs))
    assert all(weight.dtype == "float32" for weight in again.weights)
