"""A model run layer by layer, for what is between its layers."""

from __future__ import annotations

import keras

from vit_keras.layers.map_head import MAPHead
from vit_keras.layers.mixer_block import MixerBlock
from vit_keras.layers.token_pooling import TokenPooling
from vit_keras.layers.transformer_block import TransformerBlock

_NORMS = ("encoder_norm", "pre_head_layer_norm")


@keras.saving.register_keras_serializable(package="vit_keras")
class FeatureTap(keras.layers.Layer):
    """Runs the layers of a model in turn and returns what `vit_keras.features` promises.

    It shares the model's weights, and doesn't touch its graph.

    Args:
      model: a ViT, hybrid, Mixer or text tower: one layer after the other.
    """

    def __init__(self, model: keras.Model, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})  # each layer has its own
        self.model = model

    def build(self, input_shape):
        """Nothing: the layers are built."""
        super().build(input_shape)

    def call(self, inputs, training=None):
        """The model's input to a dict of tensors."""
        found, x = {}, inputs
        for layer in self.model.layers:
            if isinstance(layer, keras.layers.InputLayer):
                continue
            if isinstance(layer, TransformerBlock):
                x, weights = layer(x, training=training, return_attention_weights=True)
                found[layer.name] = x
                found[f"{layer.name}_attention_weights"] = weights
            else:
                x = layer(x)
            if isinstance(layer, MixerBlock):
                found[layer.name] = x
            elif layer.name in _NORMS:
                found["encoded"] = found["pre_logits"] = x
            elif isinstance(layer, TokenPooling | MAPHead) or layer.name == "pre_logits":
                found["pre_logits"] = x
            elif layer.name == "head":
                found["logits"] = x
        return found

    def get_config(self):
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "model": keras.saving.serialize_keras_object(self.model),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """From `get_config`'s dict."""
        model = keras.saving.deserialize_keras_object(
            config.pop("model"), custom_objects=custom_objects
        )
        return cls(model, **config)
