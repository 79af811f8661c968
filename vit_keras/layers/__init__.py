"""The Keras layers that the models are assembled from."""

from vit_keras.layers import random
from vit_keras.layers.bert_block import BertBlock
from vit_keras.layers.bert_embedding import BertEmbedding
from vit_keras.layers.class_token import ClassToken
from vit_keras.layers.group_norm import GroupNorm
from vit_keras.layers.layer_norm import LayerNorm
from vit_keras.layers.layer_scale import LayerScale
from vit_keras.layers.map_head import MAPHead
from vit_keras.layers.mixer_block import MixerBlock
from vit_keras.layers.mlp_block import MlpBlock
from vit_keras.layers.multi_head_dot_product_attention import MultiHeadDotProductAttention
from vit_keras.layers.patch_encoder import PatchEncoder
from vit_keras.layers.position_embedding import PositionEmbedding
from vit_keras.layers.residual_unit import ResidualUnit
from vit_keras.layers.resized_patch_encoder import ResizedPatchEncoder
from vit_keras.layers.resized_position_embedding import ResizedPositionEmbedding
from vit_keras.layers.similarity import Similarity
from vit_keras.layers.sincos_position_embedding import SinCosPositionEmbedding
from vit_keras.layers.stateless_dropout import StatelessDropout
from vit_keras.layers.std_conv import StdConv
from vit_keras.layers.stochastic_depth import StochasticDepth
from vit_keras.layers.token_embedding import TokenEmbedding
from vit_keras.layers.token_pooling import TokenPooling
from vit_keras.layers.transformer_block import TransformerBlock
from vit_keras.layers.unit_length import UnitLength

__all__ = [
    "BertBlock",
    "BertEmbedding",
    "ClassToken",
    "GroupNorm",
    "LayerNorm",
    "LayerScale",
    "MAPHead",
    "MixerBlock",
    "MlpBlock",
    "MultiHeadDotProductAttention",
    "PatchEncoder",
    "PositionEmbedding",
    "ResidualUnit",
    "ResizedPatchEncoder",
    "ResizedPositionEmbedding",
    "Similarity",
    "SinCosPositionEmbedding",
    "StatelessDropout",
    "StdConv",
    "StochasticDepth",
    "TokenEmbedding",
    "TokenPooling",
    "TransformerBlock",
    "UnitLength",
    "random",
]
