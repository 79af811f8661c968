"""timm's state dicts against the real timm, both directions; and `.pth` files.

Needs torch and, but for the `.pth` tests, timm (which needs the torchvision that belongs to that
torch).
"""

import numpy as np
import pytest

from vit_keras.checkpoints.keras_weights import named_weights
from vit_keras.checkpoints.timm import from_timm, save_timm
from vit_keras.models.config import ViTConfig
from vit_keras.models.vit import build_vit

torch = pytest.importorskip("torch", reason="torch isn't installed")
safetensors_torch = pytest.importorskip("safetensors.torch", reason="safetensors isn't installed")

TOLERANCE = 1e-5  # of the largest output; the other gelu is further off

SMALL = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 2,
    "num_heads": 4,
    "mlp_ratio": 2,
    "num_classes": 5,
}
VARIANTS = {
    "class token": {},
    "class token without position": {"no_embed_class": True},
    "mean": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "attention pooling": {"class_token": False, "global_pool": "map"},
    "attention pooling without head": {
        "class_token": False,
        "global_pool": "map",
        "num_classes": 0,
    },
    "tanh gelu": {"act_layer": "gelu_tanh"},
    "layer scale": {"init_values": 0.1},
    "no bias of queries, keys and values": {"qkv_bias": False},
    "not square": {"img_size": (16, 40)},
}


@pytest.fixture(scope="module")
def vision_transformer():
    timm = pytest.importorskip("timm", reason="timm isn't installed")
    return timm.models.vision_transformer.VisionTransformer


def randomized(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def pixels(size):
    images = np.random.default_rng(1).uniform(-1, 1, (3, *size, 3)).astype(np.float32)
    return images, torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def assert_close(ours, theirs):
    ours, theirs = np.asarray(ours), theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


@pytest.mark.parametrize("facts", VARIANTS.values(), ids=VARIANTS)
def test_against_timm(vision_transformer, tmp_path, facts):
    suffix = ".pth" if "init_values" in facts else ".safetensors"
    theirs = randomized(vision_transformer(**{**SMALL, **facts}))
    path = tmp_path / f"in{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        safetensors_torch.save_file(theirs.state_dict(), path)
    ours = from_timm(
        path,
        num_heads=4,
        approximate_gelu=facts.get("act_layer") == "gelu_tanh",
        stored_image_size=facts.get("img_size"),
    )
    images, tensor = pixels(ours.input_shape[1:3])
    assert_close(ours(images), theirs(tensor))
    arguments = save_timm(ours, tmp_path / f"out{suffix}")
    again = vision_transformer(**arguments).eval()
    load = torch.load if suffix == ".pth" else safetensors_torch.load_file
    again.load_state_dict(load(tmp_path / f"out{suffix}"))
    assert_close(ours(images), again(tensor))
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_gelu_tells(vision_transformer, tmp_path):
    """The test above could not pass with the other gelu."""
    theirs = randomized(vision_transformer(**SMALL))
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    images, tensor = pixels((32, 32))
    wrong = from_timm(tmp_path / "m.safetensors", num_heads=4, approximate_gelu=True)
    expected = theirs(tensor).detach().numpy()
    assert np.abs(np.asarray(wrong(images)) - expected).max() > TOLERANCE * np.abs(expected).max()


def test_named_size_needs_no_heads(vision_transformer, tmp_path):
    theirs = randomized(
        vision_transformer(
            **{**SMALL, "embed_dim": 192, "depth": 12, "num_heads": 3, "mlp_ratio": 4}
        )
    )
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    images, tensor = pixels((32, 32))
    assert_close(from_timm(tmp_path / "m.safetensors")(images), theirs(tensor))


def test_norm_after_pooling_is_refused(vision_transformer, tmp_path):
    theirs = vision_transformer(**SMALL, global_pool="avg")
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match="a norm after the pooling"):
        from_timm(tmp_path / "m.safetensors", num_heads=4)


@pytest.fixture
def ours():
    config = ViTConfig(
        hidden_size=32,
        mlp_dim=64,
        num_heads=4,
        num_layers=1,
        patch_size=8,
        image_size=32,
        classes=5,
        approximate_gelu=False,
    )
    return build_vit(config)


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
def test_pth(ours, tmp_path, key):
    save_timm(ours, tmp_path / "m.pth")
    if key:
        state = torch.load(tmp_path / "m.pth", weights_only=True)
        torch.save({key: state, "epoch": 3}, tmp_path / "m.pth")
    again = from_timm(tmp_path / "m.pth", num_heads=4)
    for name, weight in named_weights(ours).items():
        np.testing.assert_array_equal(np.asarray(weight), np.asarray(named_weights(again)[name]))


def test_bfloat16_pth(ours, tmp_path):
    save_timm(ours, tmp_path / "m.pth")
    state = torch.load(tmp_path / "m.pth", weights_only=True)
    torch.save({n: t.to(torch.bfloat16) for n, t in state.items()}, tmp_path / "m.pth")
    again = named_weights(from_timm(tmp_path / "m.pth", num_heads=4))
    kernel = state["head.weight"].to(torch.bfloat16).float().numpy().T
    np.testing.assert_array_equal(np.asarray(again["head/kernel"]), kernel)


def test_pickled_code_is_not_run(tmp_path):
    class Attack:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").touch, ())

    torch.save({"head.weight": Attack()}, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="can't be read as a state dict"):
        from_timm(tmp_path / "m.pth")
    assert not (tmp_path / "ran").exists()


def test_broken_pth(tmp_path, ours):
    save_timm(ours, tmp_path / "m.pth")
    whole = (tmp_path / "m.pth").read_bytes()
    (tmp_path / "m.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="can't be read as a state dict"):
        from_timm(tmp_path / "m.pth")
    torch.save([1, 2], tmp_path / "m.pth")
    with pytest.raises(ValueError, match="holds no state dict"):
        from_timm(tmp_path / "m.pth")
