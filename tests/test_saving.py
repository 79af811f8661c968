"""What users do with a model's files, on either stack."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import vit_keras

PORTABLE = Path(__file__).parent / "portable"
IMAGES = np.random.default_rng(0).uniform(-1, 1, size=(3, 32, 32, 3)).astype(np.float32)


def make(goldens, dtype, case="bv_map_learn"):
    return vit_keras.from_npz(goldens / case / "checkpoint.npz", dtype=dtype, dropout=0.1)


@pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("case", ["bv_map_learn", "vit_token_legacy_prelogits"])
def test_keras_file_gives_the_same_logits_bit_for_bit(goldens, tmp_path, case, dtype, compiled):
    model = make(goldens, dtype, case)
    if compiled:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
        model.fit(IMAGES, np.array([0, 1, 2]), verbose=0)
    expected = model.predict(IMAGES, verbose=0)
    model.save(tmp_path / "m.keras")
    loaded = tf.keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.predict(IMAGES, verbose=0), expected)
    assert expected.dtype == np.float32
    block = loaded.get_layer("encoderblock_0")
    assert block.compute_dtype == ("bfloat16" if dtype == "mixed_bfloat16" else "float32")
    assert all(weight.dtype == "float32" for weight in loaded.weights)
    if compiled:
        loaded.fit(IMAGES, np.array([0, 1, 2]), verbose=0)


@pytest.mark.parametrize("stack", ["modern", "classic"])
def test_weights_file_of_either_stack_loads(goldens, stack):
    model = make(goldens, "float32", "vit_token_legacy_prelogits")
    model.load_weights(PORTABLE / f"{stack}.weights.h5")
    with np.load(PORTABLE / f"{stack}.npz") as expected:
        logits = model.predict(expected["images"], verbose=0)
        np.testing.assert_allclose(logits, expected["logits"], rtol=1e-5, atol=1e-5)


def test_users_cut_wrap_and_extend(goldens, tmp_path):
    model = make(goldens, "float32")
    tokens = keras.Model(model.input, model.get_layer("encoder_norm").output)
    x = keras.layers.GlobalAveragePooling1D()(tokens.output)
    extended = keras.Model(model.input, keras.layers.Dense(7, name="my_head")(x))
    outer = keras.Sequential([keras.Input((32, 32, 3)), extended])
    outer.save(tmp_path / "outer.keras")
    loaded = tf.keras.models.load_model(tmp_path / "outer.keras")
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), outer.predict(IMAGES, verbose=0)
    )
    with pytest.raises(ValueError, match="No checkpoint has a name"):
        vit_keras.save_npz(
            keras.Model(model.input, keras.layers.BatchNormalization()(x)), tmp_path / "no.npz"
        )
    assert not (tmp_path / "no.npz").exists()


def test_mixed_precision_stays_near_float32(goldens):
    exact = make(goldens, "float32").predict(IMAGES, verbose=0)
    mixed = make(goldens, "mixed_bfloat16").predict(IMAGES, verbose=0)
    assert mixed.dtype == np.float32
    assert np.abs(mixed - exact).max() < 0.05 * np.abs(exact).max()
    assert np.abs(mixed - exact).max() > 0  # it did compute in bfloat16


def test_summary_names_the_parts_of_the_paper(goldens):
    lines = []
    make(goldens, "float32", "vit_token_legacy").summary(
        print_fn=lambda *a, **k: lines.append(a[0])
    )
    text = "\n".join(lines)
    for name in ("embedding", "cls", "posembed_input", "encoderblock_1", "encoder_norm", "head"):
        assert name in text
