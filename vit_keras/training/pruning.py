"""Leaving out of a training step what cannot reach the loss."""

from __future__ import annotations

import keras

from vit_keras.layers import LayerNorm, TokenPooling, TransformerBlock


def prune_last_block(model: keras.Model) -> None:
    """Has the last block compute, in training, only the token that is pooled, where it is a single
    one: the class token, or the first or last of a text.

    Loss and gradients are the same: the last block's queries, MLP and norms of other tokens reach
    neither. Nothing changes outside of training, nor for models that pool in another way.

    Args:
      model: built by this package, and trained by what comes out of it, not by what is inside.
    """
    for block, pooling in _blocks_before_pooling(model):
        if pooling.pooling in ("first", "last"):
            block.read_token = pooling.pooling


def restore_last_block(model: keras.Model) -> None:
    """Undoes `prune_last_block`, for whoever goes on with the model after training."""
    for block, _ in _blocks_before_pooling(model):
        block.read_token = None


def _blocks_before_pooling(model):
    """The last block and the pooling of a ViT or text tower, of two towers those of both."""
    for tower in model.layers:
        if isinstance(tower, keras.Model):
            yield from _blocks_before_pooling(tower)
    for block, norm, pooling in zip(model.layers, model.layers[1:], model.layers[2:], strict=False):
        kinds = isinstance(block, TransformerBlock), isinstance(norm, LayerNorm)
        if all(kinds) and isinstance(pooling, TokenPooling):
            yield block, pooling
