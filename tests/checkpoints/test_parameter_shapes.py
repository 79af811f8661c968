"""What is known of a model without building it is what building it gives."""

import numpy as np
import pytest

from vit_keras import models
from vit_keras.checkpoints import named_weights
from vit_keras.checkpoints.keras_weights import unnamed_weights
from vit_keras.checkpoints.shapes import parameter_shapes

IMAGE = models.ViTConfig(32, 48, 4, 2, 8, (32, 40), classes=3)
TEXT = models.TextConfig(24, 40, 2, 2, vocab_size=50, max_length=7, classes=16)
BERT = models.BertConfig(64, 40, 1, 2, vocab_size=50, max_length=9, classes=16)

CONFIGS = {
    "vit": IMAGE,
    "gap": IMAGE.replace(classifier="gap", representation_size=20),
    "map": IMAGE.replace(classifier="map", pos_embedding="learned_before_class_token"),
    "sincos2d": IMAGE.replace(classifier="gap", pos_embedding="sincos2d", classes=0),
    "channels": IMAGE.replace(channels=1, patch_size=(8, 4)),
    "stem": IMAGE.replace(stem=models.ResNetStem((), 0.5), patch_size=2),
    "hybrid": IMAGE.replace(stem=models.ResNetStem((2, 1, 1), 0.5), patch_size=1),
    "mixer": models.MixerConfig(32, 12, 40, 2, 8, (32, 40), classes=3),
    "text": TEXT,
    "text_map": TEXT.replace(pooling="map", classes=0),
    "bert": BERT,
    "two_towers": models.TwoTowersConfig(IMAGE.replace(classes=16), TEXT, has_bias=True),
    "lit_bert": models.TwoTowersConfig(IMAGE.replace(classes=16), BERT),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_shapes_are_those_of_the_built_model(config):
    model = models.build(config)
    built = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
    assert parameter_shapes(config) == built
    assert unnamed_weights(model) == []
    assert sum(np.prod(shape) for shape in built.values()) == model.count_params()


@pytest.mark.parametrize("name", ["vit", "map", "hybrid", "text"])
def test_layer_scale(name):
    config = CONFIGS[name]
    kind = models.build_text if isinstance(config, models.TextConfig) else models.build_vit
    model = kind(config, regularization=models.Regularization(layer_scale=0.1))
    built = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
    if name == "text":  # its encoder goes by another name
        built = {key.replace("Encoder_0/", "Transformer/"): s for key, s in built.items()}
        expected = parameter_shapes(config, layer_scale=True)
        expected = {key.replace("Encoder_0/", "Transformer/"): s for key, s in expected.items()}
        assert expected == built
    else:
        assert parameter_shapes(config, layer_scale=True) == built
