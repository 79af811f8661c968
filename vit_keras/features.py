"""What happens inside a model."""

from __future__ import annotations

import keras

from vit_keras import layers
from vit_keras.layers.feature_tap import FeatureTap

_KNOWN = (
    keras.layers.InputLayer,
    keras.layers.Dense,
    keras.layers.Activation,
    keras.layers.MaxPooling2D,
    layers.StdConv,
    layers.GroupNorm,
    layers.ResidualUnit,
    layers.PatchEncoder,
    layers.TokenEmbedding,
    layers.ClassToken,
    layers.PositionEmbedding,
    layers.SinCosPositionEmbedding,
    layers.StatelessDropout,
    layers.TransformerBlock,
    layers.MixerBlock,
    layers.LayerNorm,
    layers.TokenPooling,
    layers.MAPHead,
)


def features(model: keras.Model) -> keras.Model:
    """A model with the same input and weights whose outputs are what goes on inside.

    Usage:
      >>> inside = vit_keras.features(model)(images)
      >>> inside["encoderblock_11_attention_weights"]  # (batch, heads, tokens, tokens)

    Args:
      model: a ViT, hybrid, Mixer or text tower of this package, in any dtype policy, also after
        `keras.models.load_model`; of two towers, one (`model.get_layer("img")`).

    Returns:
      A Keras model to a dict, in the order of computation, of
        - `encoderblock_0` (`MixerBlock_0` in a Mixer), ...: tokens (batch, n, D) after each block;
        - `encoderblock_0_attention_weights`, ...: (batch, heads, n, n), not in a Mixer;
        - `encoded`: tokens (batch, n, D) after the last norm, the class token first;
        - `pre_logits`: (batch, D) what the head sees, after pooling and the tanh layer if any;
        - `logits`: (batch, classes), if there is a head.

    Raises:
      ValueError: the model has layers that this can't follow.
    """
    unknown = [layer for layer in model.layers if not isinstance(layer, _KNOWN)]
    if unknown:
        inner = [layer.name for layer in unknown if isinstance(layer, keras.Model)]
        hint = f"; try features(model.get_layer({inner[0]!r}))" if inner else ""
        raise ValueError(
            f"model has the layers {', '.join(layer.name for layer in unknown)}, which features "
            f"can't follow{hint}."
        )
    inputs = keras.Input(
        model.input_shape[1:],
        dtype="int32" if isinstance(model.layers[1], layers.TokenEmbedding) else None,
        name=model.layers[0].name,
    )
    outputs = FeatureTap(model, name="features")(inputs)
    return keras.Model(inputs, outputs, name=f"{model.name}_features")
