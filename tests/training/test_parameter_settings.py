"""Settings by pattern over checkpoint names."""

import pytest

from vit_keras.training.parameter_settings import log_settings, make_settings

NAMES = [
    "cls",
    "embedding/kernel",
    "embedding/bias",
    "Transformer/posembed_input/pos_embedding",
    *[
        f"Transformer/encoderblock_{block}/{name}"
        for block in (0, 1, 10)
        for name in ("LayerNorm_0/scale", "MlpBlock_3/Dense_0/kernel")
    ],
    "Transformer/encoder_norm/scale",
    "head/kernel",
    "head/bias",
]


def by_name(**kwargs):
    return {setting.name: setting for setting in make_settings(NAMES, **kwargs)}


def test_decay_is_for_kernels_only():
    settings = by_name(weight_decay=0.1)
    decaying = [name for name, setting in settings.items() if setting.weight_decay]
    assert decaying == [name for name in NAMES if name.endswith("/kernel")]
    settings = by_name(weight_decay=0.1, weight_decay_multipliers=(("head/", 0.0), (".*", 2.0)))
    assert settings["head/kernel"].weight_decay == 0.0
    assert settings["cls"].weight_decay == 0.2


def test_first_pattern_counts():
    settings = by_name(lr_multipliers=(("head/kernel", 3.0), ("head/", 2.0)), frozen=("embedding",))
    assert settings["head/kernel"].lr_multiplier == 3.0
    assert settings["head/bias"].lr_multiplier == 2.0
    assert settings["embedding/bias"].frozen
    assert not settings["cls"].frozen


def test_layer_decay():
    """Twelve layers between the embeddings (the smallest rate) and the head (the full one)."""
    settings = by_name(layer_decay=0.5, lr_multipliers=(("head/bias", 3.0),))
    depths = {
        "cls": 0,
        "embedding/kernel": 0,
        "Transformer/posembed_input/pos_embedding": 0,
        "Transformer/encoderblock_0/LayerNorm_0/scale": 1,
        "Transformer/encoderblock_10/LayerNorm_0/scale": 11,
        "Transformer/encoder_norm/scale": 12,
        "head/kernel": 12,
    }
    for name, depth in depths.items():
        assert settings[name].lr_multiplier == 0.5 ** (12 - depth)
    assert settings["head/bias"].lr_multiplier == 3.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(lr_multipliers=(("heat/", 2.0),)), r"lr_multipliers: the pattern 'heat/' matches no"),
        (dict(frozen=("kernel$",)), "matches no parameter"),  # matched from the start
        (dict(frozen=("[",)), "is not a regular expression"),
        (dict(lr_multipliers=(("head/", 0.0),)), "to freeze, use `frozen`"),
        (dict(layer_decay=1.5), r"layer_decay is 1.5; expected a number in \(0, 1\]"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_settings(NAMES, **arguments)


def test_no_kernels_and_no_decay():
    make_settings(["scale"])  # nothing for the default pattern to match, and nothing to decay


def test_table():
    table = log_settings(
        make_settings(["a/kernel", "b"], weight_decay=0.1, frozen=("b",)), [(2, 3), (4,)]
    )
    assert "a/kernel  (2, 3)" in table
    assert "frozen" in table
