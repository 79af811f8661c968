"""`create_model`: a model by name."""

from __future__ import annotations

import os
from typing import Any

import keras

from vit_keras.checkpoints import catalog
from vit_keras.checkpoints.describe import describe
from vit_keras.checkpoints.load import from_npz
from vit_keras.models.build import Config, build
from vit_keras.models.regularization import Regularization
from vit_keras.models.two_towers import TwoTowersConfig
from vit_keras.models.variants import canonical_variant, variant_config


def create_model(
    variant: str,
    image_size: int | tuple[int, int] | None = None,
    classes: int | None = None,
    weights: str | os.PathLike | None = None,
    *,
    patch_size: int | tuple[int, int] | None = None,
    classifier: str | None = None,
    pos_embedding: str | None = None,
    representation_size: int | None = None,
    channels: int | None = None,
    activation: str | None = None,
    dtype: Any = None,
    name: str | None = None,
    **regularization: Any,
) -> keras.Model:
    """Builds a model by the name of its size.

    Args:
      variant: such as "B/16", "R50+B/16", "Mixer-B/16" or "LiT-L16S" (`models.VARIANTS`); also
        as others write them: "ViT-B_16", "b16", "R50+ViT-B_16", "R_Ti_16", "mixer_b16".
      image_size: side in pixels, or (height, width); None for 224, or the checkpoint's.
      classes: outputs of the head, 0 for no head; None for 1000, or the checkpoint's. A number
        other than the checkpoint's makes a fresh head of zeros.
      weights: the name of a published family ("augreg", "imagenet21k",
        "imagenet21k+imagenet2012", "sam", "gsam", "lit", ...), an address, or the path of an
        `.npz` file (see `catalog.resolve`); None for fresh weights.
      patch_size: another than the variant's; a checkpoint's patch embedding is resized to it
        (FlexiViT, arXiv 2212.08013, equation 4).
      classifier: "token", "gap", "map", "token_unpooled" or "unpooled"; None for "token", or
        what the checkpoint has.
      pos_embedding: "learned", "learned_before_class_token" or "sincos2d"; None for "learned", or
        what the checkpoint has.
      representation_size: width of the tanh layer before the head; None for none, or what the
        checkpoint has.
      channels: of the images; None for 3, or the checkpoint's.
      activation: of the output, such as "softmax"; None for linear logits.
      dtype: Keras dtype policy, such as "mixed_bfloat16"; None for the global one.
      name: of the model; by default made of the variant.
      **regularization: fields of `models.Regularization`: dropout, attention_dropout,
        stochastic_depth, layer_scale, remat.

    Returns:
      A functional Keras model from images (batch, height, width, channels) in [-1, 1] to float32
      logits (batch, classes); for two towers see `models.build_two_towers`.

    Raises:
      ValueError: an unknown variant (the message lists the valid ones) or argument, or weights
        that are another architecture's.
    """
    facts = {
        "patch_size": patch_size,
        "classifier": classifier,
        "pos_embedding": pos_embedding,
        "representation_size": representation_size,
        "channels": channels,
    }
    if name is None:
        family = "" if canonical_variant(variant)[:3] in ("Mix", "LiT", "Sig") else "vit_"
        squeezed = "".join(c for c in str(variant).lower() if c.isalnum())
        name = family + squeezed.removeprefix("vit")
    if weights is None:
        return build(
            variant_config(variant, image_size=image_size, classes=classes, **facts),
            regularization=Regularization.from_options(regularization),
            activation=activation,
            dtype=dtype,
            name=name,
        )
    path = catalog.fetch(variant, weights, image_size)
    _check_architecture(path, image_size, variant, facts)
    return from_npz(
        path,
        image_size=image_size,
        classes=classes,
        classifier=classifier,
        patch_size=patch_size,
        activation=activation,
        dtype=dtype,
        name=name,
        **regularization,
    )


_SIZES = (
    "hidden_size",
    "mlp_dim",
    "num_heads",
    "num_layers",
    "tokens_mlp_dim",
    "channels_mlp_dim",
    "patch_size",
    "stem",
    "vocab_size",
)


def _check_architecture(
    path: str, image_size: int | tuple[int, int] | None, variant: str, facts: dict[str, Any]
) -> None:
    """Raises unless the checkpoint is of `variant`, and as `facts` (that aren't None) say."""
    asked = variant_config(variant)
    patch_size, _ = facts["patch_size"], facts.pop("classifier")
    found = describe(path, image_size, patch_size).config
    if type(found) is not type(asked):
        raise ValueError(
            f"variant is {variant!r}, but {path} is of another family: {type(found).__name__}."
        )
    pairs = [(asked, found)]
    if isinstance(asked, TwoTowersConfig):
        pairs = [(asked.image, found.image), (asked.text, found.text)]
    wrong = [
        f"{field} {getattr(got, field)!r} instead of {getattr(want, field)!r}"
        for want, got in pairs
        for field in _SIZES
        if hasattr(want, field) and getattr(want, field) != getattr(got, field, None)
        if not (field == "patch_size" and patch_size is not None)
    ]
    wrong += [
        f"{field} {_fact(found, field)!r} instead of {value!r}"
        for field, value in facts.items()
        if value is not None and field != "patch_size" and _fact(found, field) != value
    ]
    if wrong:
        raise ValueError(
            f"{path} isn't what was asked for: variant {variant!r}, but it has {', '.join(wrong)}. "
            "(from_npz reads it whatever it is.)"
        )


def _fact(config: Config, field: str) -> Any:
    return getattr(getattr(config, "image", config), field, None)
