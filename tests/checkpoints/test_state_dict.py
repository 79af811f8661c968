"""PyTorch formats without PyTorch: round trips, and what is refused."""

import json
import pathlib

import numpy as np
import pytest

import vit_keras
from vit_keras.checkpoints.hugging_face import (
    from_hugging_face,
    hugging_face_to_npz,
    npz_to_hugging_face,
    save_hugging_face,
)
from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.state_dict import Entry, StateDict
from vit_keras.checkpoints.timm import from_timm, save_timm

pytest.importorskip("safetensors", reason="the extra `torch` isn't installed")

GOLDENS = pathlib.Path(__file__).parent.parent / "goldens"


def small_model(seed=0, image_size=(32, 32), **facts):
    """A ViT of width 32 with random weights."""
    from vit_keras.models.config import ViTConfig
    from vit_keras.models.regularization import Regularization
    from vit_keras.models.vit import build_vit

    layer_scale = facts.pop("layer_scale", None)
    config = ViTConfig(
        **{
            "hidden_size": 32,
            "mlp_dim": 64,
            "num_heads": 4,
            "num_layers": 2,
            "patch_size": 8,
            "image_size": image_size,
            "classes": 5,
            **facts,
        }
    )
    model = build_vit(config, regularization=Regularization(layer_scale=layer_scale))
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        weight.assign(rng.normal(0, 0.3, weight.shape).astype(np.float32))
    return model


def images(model, seed=1):
    shape = (3, *model.input_shape[1:])
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def assert_same_model(model, again):
    arrays, copies = named_weights(model), named_weights(again)
    assert arrays.keys() == copies.keys()
    for name, weight in arrays.items():
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(copies[name]), err_msg=name)
    batch = images(model)
    np.testing.assert_array_equal(np.asarray(model(batch)), np.asarray(again(batch)))


def edit_json(path, **changes):
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


HUGGING_FACE_MODELS = {
    "classifier": {},
    "exact gelu, small epsilon": {"approximate_gelu": False, "layer_norm_epsilon": 1e-12},
    "not square": {"image_size": (16, 40)},
    "one channel": {"channels": 1},
    "pooler": {"classes": 0, "representation_size": 24},
    "class token": {"classes": 0},
    "siglip image tower": {"classes": 0, "classifier": "map"},
}


@pytest.mark.parametrize("facts", HUGGING_FACE_MODELS.values(), ids=HUGGING_FACE_MODELS)
def test_hugging_face_round_trip(facts, tmp_path):
    model = small_model(**facts)
    save_hugging_face(model, tmp_path / "folder")
    assert_same_model(model, from_hugging_face(tmp_path / "folder"))


TIMM_MODELS = {
    "class token": {},
    "class token without position": {"pos_embedding": "learned_before_class_token"},
    "mean": {"classifier": "gap"},
    "attention pooling": {"classifier": "map", "classes": 0},
    "tanh gelu": {"approximate_gelu": True},
    "layer scale": {"layer_scale": 0.1},
    "not square": {"image_size": (16, 40)},
}


@pytest.mark.parametrize("facts", TIMM_MODELS.values(), ids=TIMM_MODELS)
def test_timm_round_trip(facts, tmp_path):
    model = small_model(**{"approximate_gelu": False, **facts})
    path = tmp_path / "model.safetensors"
    arguments = save_timm(model, path)
    again = from_timm(
        path,
        num_heads=4,
        approximate_gelu=facts.get("approximate_gelu", False),
        stored_image_size=facts.get("image_size"),
    )
    assert_same_model(model, again)
    assert arguments["act_layer"] == ("gelu_tanh" if facts.get("approximate_gelu") else "gelu")
    assert int(arguments["embed_dim"] * arguments["mlp_ratio"]) == 64


def test_class_token_without_position_becomes_the_same_function(tmp_path):
    """transformers' ViT always has a position for the class token: one of zeros."""
    model = small_model(pos_embedding="learned_before_class_token")
    save_hugging_face(model, tmp_path)
    again = from_hugging_face(tmp_path)
    batch = images(model)
    np.testing.assert_allclose(np.asarray(model(batch)), np.asarray(again(batch)), rtol=1e-5)


def test_two_formats_agree(tmp_path):
    model = small_model(approximate_gelu=False)
    save_hugging_face(model, tmp_path / "folder")
    save_timm(from_hugging_face(tmp_path / "folder"), tmp_path / "m.safetensors")
    assert_same_model(model, from_timm(tmp_path / "m.safetensors", num_heads=4))


def test_options_of_reading(tmp_path):
    model = small_model()
    save_hugging_face(model, tmp_path)
    larger = from_hugging_face(tmp_path, image_size=64)
    assert larger.input_shape == (None, 64, 64, 3)
    positions = named_weights(larger)["Transformer/posembed_input/pos_embedding"]
    assert positions.shape == (1, 65, 32)
    fresh = from_hugging_face(tmp_path, classes=7)
    assert fresh.output_shape == (None, 7)
    assert not np.asarray(named_weights(fresh)["head/kernel"]).any()
    assert from_hugging_face(tmp_path, classes=0).output_shape == (None, 32)
    assert not np.asarray(
        named_weights(from_hugging_face(tmp_path, reset_head=True))["head/bias"]
    ).any()
    probabilities = from_hugging_face(tmp_path, activation="softmax")(images(model))
    np.testing.assert_allclose(np.asarray(probabilities).sum(1), 1, rtol=1e-5)


def test_pooler_can_be_dropped(tmp_path):
    save_hugging_face(small_model(classes=0, representation_size=24), tmp_path)
    assert from_hugging_face(tmp_path).output_shape == (None, 24)
    assert from_hugging_face(tmp_path, pre_logits=False).output_shape == (None, 32)


def test_class_names_are_kept(tmp_path):
    names = ["ant", "bee", "cat", "dog", "eel"]
    save_hugging_face(small_model(), tmp_path, class_names=names)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["id2label"] == {str(i): name for i, name in enumerate(names)}
    with pytest.raises(ValueError, match="class_names has 1 names; the head has 5"):
        save_hugging_face(small_model(), tmp_path, class_names=["ant"])


def test_bfloat16_and_float16_files(tmp_path):
    from safetensors.numpy import load_file, save_file

    from vit_keras.checkpoints.npz_file import BFLOAT16

    model = small_model(approximate_gelu=False)
    path = tmp_path / "m.safetensors"
    save_timm(model, path)
    state = load_file(path)
    for dtype in (np.float16, BFLOAT16):
        save_file({name: array.astype(dtype) for name, array in state.items()}, path)
        again = from_timm(path, num_heads=4)
        for name, weight in named_weights(model).items():
            rounded = np.asarray(weight).astype(dtype).astype(np.float32)
            np.testing.assert_array_equal(np.asarray(named_weights(again)[name]), rounded)


def test_shards(tmp_path):
    from safetensors.numpy import load_file, save_file

    model = small_model()
    save_hugging_face(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({n: state[n] for n in names if files[n] == file}, tmp_path / file)
    index = {"metadata": {}, "weight_map": files}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_same_model(model, from_hugging_face(tmp_path))


def test_without_biases_of_query_key_value(tmp_path):
    from safetensors.numpy import load_file, save_file

    model = small_model(approximate_gelu=False)
    for name, weight in named_weights(model).items():
        if name.endswith(("query/bias", "key/bias", "value/bias")):
            weight.assign(np.zeros(weight.shape, np.float32))
    save_timm(model, tmp_path / "m.safetensors")
    state = load_file(tmp_path / "m.safetensors")
    save_file(
        {n: a for n, a in state.items() if not n.endswith("qkv.bias")}, tmp_path / "m.safetensors"
    )
    assert_same_model(model, from_timm(tmp_path / "m.safetensors", num_heads=4))
    save_hugging_face(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    pattern = ("query.bias", "key.bias", "value.bias")
    save_file(
        {n: a for n, a in state.items() if not n.endswith(pattern)}, tmp_path / "model.safetensors"
    )
    edit_json(tmp_path / "config.json", qkv_bias=False)
    assert_same_model(model, from_hugging_face(tmp_path))


def test_siglip_npz_through_hugging_face_is_bit_exact(tmp_path):
    golden = GOLDENS / "siglip_two_towers_map_last" / "checkpoint.npz"
    npz_to_hugging_face(golden, tmp_path / "folder")
    hugging_face_to_npz(tmp_path / "folder", tmp_path / "again.npz")
    with np.load(golden) as before, np.load(tmp_path / "again.npz") as after:
        assert set(before.files) == set(after.files)
        for name in before.files:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_siglip_two_towers(tmp_path):
    """The golden's similarities, by way of a Hugging Face folder."""
    golden = GOLDENS / "siglip_two_towers_map_last"
    npz_to_hugging_face(golden / "checkpoint.npz", tmp_path)
    model = from_hugging_face(tmp_path)
    with np.load(golden / "expected.npz") as expected:
        batch = ((expected["images_uint8"] - 127.5) / 127.5).astype(np.float32)
        outputs = model({"image": batch, "tokens": expected["tokens"]})
        wanted = expected["similarity_logits"]
    difference = np.abs(np.asarray(outputs["similarity_logits"]) - wanted).max()
    assert difference <= 1e-5 * np.abs(wanted).max()
    save_hugging_face(model, tmp_path / "again")
    hugging_face_to_npz(tmp_path / "again", tmp_path / "again.npz")
    with np.load(golden / "checkpoint.npz") as before, np.load(tmp_path / "again.npz") as after:
        for name in before.files:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_image_tower_of_siglip(tmp_path):
    golden = GOLDENS / "siglip_two_towers_map_last"
    npz_to_hugging_face(golden / "checkpoint.npz", tmp_path)
    model = from_hugging_face(tmp_path, tower="image")
    with np.load(golden / "expected.npz") as expected:
        z = np.asarray(model(((expected["images_uint8"] - 127.5) / 127.5).astype(np.float32)))
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        np.testing.assert_allclose(z, expected["zimg"], atol=1e-5)


# What is refused


def test_models_without_counterpart(tmp_path):
    for facts, match in (
        ({"classifier": "gap"}, "no counterpart"),
        ({"classifier": "map"}, "no counterpart"),
        ({"classifier": "unpooled"}, "no counterpart"),
        ({"pos_embedding": "sincos2d"}, "no PositionEmbedding"),
        ({"representation_size": 24}, "pre_logits in front of its head"),
        ({"layer_scale": 0.1}, "no place for Transformer/encoderblock_0/LayerScale_0"),
        ({"classifier": "map", "classes": 0, "image_size": (16, 40)}, "squares only"),
    ):
        with pytest.raises(ValueError, match=match):
            save_hugging_face(small_model(**facts), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    for facts, match in (
        ({"classifier": "unpooled"}, "no ViT that pools like it"),
        ({"representation_size": 24}, "pre_logits"),
        ({"layer_norm_epsilon": 1e-12}, "epsilon 1e-12"),
    ):
        with pytest.raises(ValueError, match=match):
            save_timm(small_model(**facts), tmp_path / "m.safetensors")
    assert not (tmp_path / "m.safetensors").exists()


@pytest.fixture
def folder(tmp_path):
    save_hugging_face(small_model(), tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"hidden_act": "relu"}, r"hidden_act is 'relu'; expected one of gelu, gelu_pytorch_tanh"),
        ({"model_type": "vitt"}, r"'vitt'; expected one of vit, siglip.*Did you mean 'vit'"),
        ({"architectures": ["ViTForMaskedImageModeling"]}, "ViTForImageClassification"),
        ({"num_hidden_layers": 3}, r"missing    vit\.encoder\.layer\.2\."),
        ({"num_hidden_layers": 1}, r"extra      vit\.encoder\.layer\.1\."),
        ({"image_size": 64}, r"misshapen.*found \(1, 17, 32\), expected \(1, 65, 32\)"),
        ({"patch_size": 16}, "misshapen"),
        ({"num_attention_heads": 5}, "num_heads is 5; expected a divisor"),
    ],
)
def test_config_that_does_not_fit(folder, changes, match):
    edit_json(folder / "config.json", **changes)
    with pytest.raises(ValueError, match=match):
        from_hugging_face(folder)


def test_missing_and_broken_files(folder):
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not a JSON file"):
        from_hugging_face(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="no JSON object"):
        from_hugging_face(folder)
    (folder / "config.json").write_text(config)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for broken in (b"", whole[:100], whole[:-1], b"\xff" * 200):
        weights.write_bytes(broken)
        with pytest.raises(ValueError, match=r"not a whole \.safetensors"):
            from_hugging_face(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"none of model\.safetensors"):
        from_hugging_face(folder)
    with pytest.raises(FileNotFoundError):
        from_hugging_face(folder / "nowhere")


def test_nan_is_refused(folder):
    from safetensors.numpy import load_file, save_file

    state = load_file(folder / "model.safetensors")
    state["classifier.bias"][0] = np.nan
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match="NaN"):
        from_hugging_face(folder)


def test_timm_needs_what_it_can_not_know(tmp_path):
    path = tmp_path / "m.safetensors"
    save_timm(small_model(approximate_gelu=False), path)
    with pytest.raises(ValueError, match="pass num_heads"):
        from_timm(path)
    with pytest.raises(ValueError, match="num_heads is 5"):
        from_timm(path, num_heads=5)
    save_timm(small_model(image_size=(16, 40)), path)
    with pytest.raises(ValueError, match="no square image: pass stored_image_size"):
        from_timm(path, num_heads=4)
    with pytest.raises(ValueError, match="of 16 patches"):
        from_timm(path, num_heads=4, stored_image_size=32)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("fc_norm.weight", "after the pooling"),
        ("reg_token", "register"),
        ("blocks.0.attn.q_norm.weight", "norms of queries"),
        ("dist_token", "distillation"),
    ],
)
def test_foreign_parts_of_timm(tmp_path, name, meaning):
    from safetensors.numpy import load_file, save_file

    path = tmp_path / "m.safetensors"
    save_timm(small_model(), path)
    save_file({**load_file(path), name: np.ones(3, np.float32)}, path)
    with pytest.raises(ValueError, match=meaning):
        from_timm(path, num_heads=4)


def test_file_kinds(tmp_path):
    with pytest.raises(FileNotFoundError):
        StateDict(tmp_path / "none.safetensors")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ValueError, match=r"expected a \.safetensors, \.pth"):
        StateDict(tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"suffix is '\.onnx'"):
        save_timm(small_model(), tmp_path / "n.onnx")


def test_npz_that_is_no_siglip(tmp_path):
    golden = GOLDENS / "vit_token_linen" / "checkpoint.npz"
    with pytest.raises(ValueError, match="expected two SigLIP towers"):
        npz_to_hugging_face(golden, tmp_path)
    save_hugging_face(small_model(), tmp_path)
    with pytest.raises(ValueError, match="of model_type 'vit'; expected 'siglip'"):
        hugging_face_to_npz(tmp_path, tmp_path / "x.npz")


@pytest.mark.parametrize("layout", ["same", "dense", "conv", "into_heads", "out_of_heads"])
def test_layouts_are_inverse(layout):
    shape = {"conv": (8, 3, 2, 5), "same": (4, 6)}.get(layout, (12, 12))
    array = np.random.default_rng(0).normal(size=shape)
    entry = Entry("ours", "theirs", layout, heads=3)
    np.testing.assert_array_equal(entry.to_state(entry.to_canonical(array)), array)


def test_published_golden_through_both_formats(tmp_path):
    """A JAX checkpoint keeps its logits on the way through either format."""
    golden = GOLDENS / "vit_token_legacy"
    model = vit_keras.from_npz(golden / "checkpoint.npz")
    with np.load(golden / "expected.npz") as expected:
        batch = ((expected["images_uint8"] - 127.5) / 127.5).astype(np.float32)
    logits = np.asarray(model(batch))
    save_hugging_face(model, tmp_path)
    np.testing.assert_array_equal(np.asarray(from_hugging_face(tmp_path)(batch)), logits)
    save_timm(model, tmp_path / "m.safetensors")
    heads = json.loads((golden / "config.json").read_text())["num_heads"]
    again = from_timm(
        tmp_path / "m.safetensors",
        num_heads=heads,
        approximate_gelu=True,
    )
    np.testing.assert_array_equal(np.asarray(again(batch)), logits)
