"""Every named variant: aliases, and parameter counts as the reference has them."""

import numpy as np
import pytest

import vit_keras
from vit_keras import models
from vit_keras.checkpoints.shapes import parameter_shapes

# Of the JAX reference models at 224 px with 1000 classes.
COUNTS = {
    "Ti/16": 5_717_416,
    "S/16": 22_050_664,
    "S/32": 22_878_952,
    "B/8": 86_576_872,
    "B/16": 86_567_656,
    "B/32": 88_224_232,
    "L/16": 304_326_632,
    "L/32": 306_535_400,
    "H/14": 632_045_800,
    "ViT-S_16-gap-norep": 22_049_896,
    "ViT-B_16-gap-norep": 86_566_120,
    "R+Ti/16": 6_337_704,
    "R50+B/16": 98_659_112,
    "R26+B/32": 101_383_976,
    "R26+S/32": 36_431_912,
    "R50+L/32": 328_994_856,
    "Mixer-B/16": 59_880_472,
    "Mixer-B/32": 60_293_428,
    "Mixer-L/16": 208_196_168,
}


@pytest.mark.parametrize(("variant", "count"), COUNTS.items())
def test_parameter_counts(variant, count):
    shapes = parameter_shapes(models.variant_config(variant))
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == count


# Built for real: one of each family and every small one. The sizes between differ in numbers alone,
# and `parameter_shapes` is compared with what is built in tests/checkpoints.
@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", ["Ti/16", "S/16", "ViT-B_16-gap-norep", "R+Ti/16", "R26+S/32", "Mixer-B/16"]
)
def test_built_models_have_these_counts(variant):
    assert vit_keras.create_model(variant).count_params() == COUNTS[variant]


@pytest.mark.parametrize("variant", models.VARIANTS)
def test_every_variant_has_an_architecture(variant):
    config = models.variant_config(variant)
    assert models.canonical_variant(variant) == variant
    assert parameter_shapes(config)


@pytest.mark.parametrize(
    ("alias", "variant"),
    [
        ("ViT-B_16", "B/16"),
        ("B_16", "B/16"),
        ("b16", "B/16"),
        ("vit_l32", "L/32"),
        ("ViT-H_14", "H/14"),
        ("B/7", "B/7"),
        ("g/14", "g/14"),
        ("G/14", "G/14"),
        ("g-opt/14", "g-opt/14"),
        ("R50+ViT-B_16", "R50+B/16"),
        ("R50_B_16", "R50+B/16"),
        ("R_Ti_16", "R+Ti/16"),
        ("R+ViT-Ti_16", "R+Ti/16"),
        ("R26_S_32", "R26+S/32"),
        ("Mixer-B_16", "Mixer-B/16"),
        ("mixer_b16", "Mixer-B/16"),
        ("Mixer-L_16", "Mixer-L/16"),
        ("LiT-B16B", "LiT-B16B"),
        ("siglip_so400m14", "SigLIP-So400m/14"),
    ],
)
def test_aliases(alias, variant):
    assert models.canonical_variant(alias) == variant
    assert models.variant_config(alias) == models.variant_config(variant)


@pytest.mark.parametrize(
    ("variant", "nearest"),
    [("B16X", "B/16"), ("R50+B/17", "R50+B/16"), ("Mixr-B/16", "Mixer-B/16")],
)
def test_unknown_variants_list_the_valid_ones(variant, nearest):
    with pytest.raises(ValueError, match="variant is") as caught:
        vit_keras.create_model(variant)
    for name in models.VARIANTS:
        assert name in str(caught.value)
    assert f"Did you mean {nearest!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"variant": "Mixer-B/16", "classifier": "token"}, "classifier"),
        ({"variant": "LiT-L16S", "classes": 5}, "classes"),
        ({"variant": "Mixer-B/16", "remat": True}, "remat"),
        ({"variant": "LiT-L16Ti", "activation": "softmax"}, "activation"),
        ({"variant": "B/16", "dropuot": 0.1}, "dropout"),
        ({"variant": "B/16", "image_size": 8}, "image_size"),
        ({"variant": "B/16", "classes": -1}, "classes"),
    ],
)
def test_facts_that_a_family_doesn_t_have(options, match):
    with pytest.raises(ValueError, match=match):
        vit_keras.create_model(**options)


@pytest.mark.parametrize("num_layers", [(), (1,), (2, 1), (1, 1, 1, 2)])
@pytest.mark.parametrize("side", [64, 65, 90])
def test_stems_of_any_stages(num_layers, side):
    stem = models.ResNetStem(num_layers, 0.5)
    config = models.ViTConfig(
        32, 32, 4, 1, patch_size=1, image_size=(side, 64), classes=2, stem=stem
    )
    model = models.build(config)
    assert model.layers[-1].output.shape == (None, 2)
    assert model.get_layer("posembed_input").grid_size == config.grid_size
    assert model(np.zeros((1, side, 64, 3), np.float32)).shape == (1, 2)


def test_residual_branches_start_closed():
    model = vit_keras.models.build(
        models.ViTConfig(32, 32, 4, 1, 1, 32, stem=models.ResNetStem((1,), 0.5), classes=2)
    )
    unit = model.get_layer("block1_unit1")
    assert not np.any(unit.gn3.scale.numpy())
    assert np.all(unit.gn_proj.scale.numpy() == 1)
