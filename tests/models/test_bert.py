"""The BERT tower: padding, names, and numerics against the real transformers package."""

import numpy as np
import pytest

import vit_keras
from vit_keras import models
from vit_keras.checkpoints import named_weights
from vit_keras.checkpoints.layout import file_layout
from vit_keras.checkpoints.naming import Dialect

CONFIG = models.BertConfig(128, 96, 2, 2, vocab_size=50, max_length=12, classes=16)
TOKENS = np.array([[3, 7, 8, 9, 0, 0], [4, 5, 6, 7, 8, 9]], np.int32)
LAYER = "BertEncoder_0/encoder_block/layer_sequence/layers_{}/"


def random_model(seed=0):
    rng = np.random.default_rng(seed)
    model = models.build(CONFIG)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape).astype(np.float32) * 0.2)
    return model


def test_padding_changes_nothing():
    model = random_model()
    np.testing.assert_allclose(model(TOKENS)[:1], model(TOKENS[:1, :4]), atol=1e-5)
    other = model(np.array([[3, 7, 8, 9, 1, 1]]))
    assert np.abs(np.asarray(other) - np.asarray(model(TOKENS)[:1])).max() > 1e-3


def test_names_and_shapes_of_flaxformer():
    """As flaxformer's own test data has them (architectures/bert/testdata)."""
    model = random_model()
    shapes = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
    stored = {name: array.shape for name, array in file_layout(shapes, Dialect("linen")).items()}
    assert stored["BertEncoder_0/embedder/embedders_token_ids/embedding"] == (50, 128)
    assert stored["BertEncoder_0/embedder/embedders_position_ids/embedding"] == (12, 128)
    assert stored["BertEncoder_0/embedder/embedders_segment_ids/embedding"] == (2, 128)
    assert stored["BertEncoder_0/layer_norm/scale"] == (128,)
    block = LAYER.format(1)
    for name, shape in {
        "attention_block/attention_layer/query/kernel": (128, 128),
        "attention_block/attention_layer/value/bias": (128,),
        "attention_block/dense_layer/kernel": (128, 128),
        "attention_block/layer_norm/bias": (128,),
        "mlp_block/mlp/dense_layer/kernel": (128, 96),
        "mlp_block/dense_layer/kernel": (96, 128),
        "mlp_block/layer_norm/scale": (128,),
    }.items():
        assert stored[block + name] == shape


@pytest.mark.parametrize("flat", [True, False])
def test_both_forms_of_attention_kernels_are_read_and_written_back(flat, tmp_path):
    model = random_model()
    vit_keras.save_npz(model, tmp_path / "flat.npz")
    path = tmp_path / "flat.npz"
    if not flat:
        arrays = dict(np.load(path))
        shapes = {name: tuple(weight.shape) for name, weight in named_weights(model).items()}
        path = tmp_path / "deep.npz"
        np.savez(path, **{name: array.reshape(shapes[name]) for name, array in arrays.items()})
    again = vit_keras.from_npz(path)
    np.testing.assert_array_equal(again(TOKENS), model(TOKENS))
    vit_keras.save_npz(again, tmp_path / "again.npz")
    first, second = dict(np.load(path)), dict(np.load(tmp_path / "again.npz"))
    assert {k: a.shape for k, a in first.items()} == {k: a.shape for k, a in second.items()}


def test_as_transformers_computes_it(tmp_path):
    torch = pytest.importorskip("torch", reason="torch isn't installed")
    transformers = pytest.importorskip("transformers", reason="transformers isn't installed")
    torch.manual_seed(0)
    bert = transformers.BertModel(
        transformers.BertConfig(
            vocab_size=50,
            hidden_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=96,
            max_position_embeddings=12,
            hidden_act="gelu_pytorch_tanh",
            layer_norm_eps=1e-12,
        )
    ).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
        tokens = torch.tensor(TOKENS.astype(np.int64))
        expected = bert(tokens, attention_mask=(tokens != 0).long()).last_hidden_state[:, 0].numpy()
    state = {name: value.numpy() for name, value in bert.state_dict().items()}

    def dense(ours, theirs):
        return {
            f"{ours}/kernel": state[f"{theirs}.weight"].T,
            f"{ours}/bias": state[f"{theirs}.bias"],
        }

    def norm(ours, theirs):
        return {f"{ours}/scale": state[f"{theirs}.weight"], f"{ours}/bias": state[f"{theirs}.bias"]}

    embedder = "BertEncoder_0/embedder/embedders_{}_ids/embedding"
    arrays = {
        embedder.format("token"): state["embeddings.word_embeddings.weight"],
        embedder.format("position"): state["embeddings.position_embeddings.weight"],
        embedder.format("segment"): state["embeddings.token_type_embeddings.weight"],
        **norm("BertEncoder_0/layer_norm", "embeddings.LayerNorm"),
    }
    for index in range(2):
        ours, theirs = LAYER.format(index), f"encoder.layer.{index}."
        attention = f"{ours}attention_block/"
        for part in ("query", "key", "value"):
            arrays |= dense(f"{attention}attention_layer/{part}", f"{theirs}attention.self.{part}")
        arrays |= dense(f"{attention}dense_layer", f"{theirs}attention.output.dense")
        arrays |= norm(f"{attention}layer_norm", f"{theirs}attention.output.LayerNorm")
        arrays |= dense(f"{ours}mlp_block/mlp/dense_layer", f"{theirs}intermediate.dense")
        arrays |= dense(f"{ours}mlp_block/dense_layer", f"{theirs}output.dense")
        arrays |= norm(f"{ours}mlp_block/layer_norm", f"{theirs}output.LayerNorm")
    np.savez(tmp_path / "bert.npz", **arrays)
    found = np.asarray(vit_keras.from_npz(tmp_path / "bert.npz")(TOKENS))
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
