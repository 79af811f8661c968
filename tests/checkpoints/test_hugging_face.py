"""Hugging Face folders against the real transformers, both directions.

Needs torch and transformers: `pip install 'torch==2.13.0' transformers safetensors`.
"""

import json

import numpy as np
import pytest

from vit_keras.checkpoints.hugging_face import from_hugging_face, save_hugging_face
from vit_keras.checkpoints.keras_weights import named_weights

torch = pytest.importorskip("torch", reason="torch isn't installed")
transformers = pytest.importorskip("transformers", reason="transformers isn't installed")

# Of the largest output: float32 in another order of operations. The other gelu is 6e-5 off.
TOLERANCE = 1e-5

ENCODER = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
IMAGES = {**ENCODER, "image_size": 32, "patch_size": 8}
TEXTS = {**ENCODER, "vocab_size": 50, "max_position_embeddings": 6}
NO_CLIP_TOKENS = {"bos_token_id": None, "eos_token_id": 1}  # its defaults are beyond 50


def randomized(model, seed=0):
    """The model with random weights that aren't small: every one of them tells."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


def vit(**facts):
    return transformers.ViTConfig(**{**IMAGES, "num_labels": 5, **facts})


def pixels(height=32, width=32, seed=1):
    """The same random images for both: (3, height, width, 3), and torch's transposed."""
    images = np.random.default_rng(seed).uniform(-1, 1, (3, height, width, 3)).astype(np.float32)
    return images, torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def numpy(tensor):
    return tensor.detach().numpy()


def assert_close(ours, theirs):
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()


def assert_same_parameters(model, again):
    state, copy = model.state_dict(), again.state_dict()
    assert state.keys() == copy.keys()
    for name, tensor in state.items():
        assert torch.equal(tensor, copy[name]), name


@pytest.mark.parametrize(
    ("activation", "epsilon"),
    [("gelu", 1e-12), ("gelu_pytorch_tanh", 1e-6), ("gelu_new", 1e-12), ("gelu", 1e-2)],
)
def test_classifier(tmp_path, activation, epsilon):
    config = vit(hidden_act=activation, layer_norm_eps=epsilon)
    theirs = randomized(transformers.ViTForImageClassification(config))
    theirs.save_pretrained(tmp_path / "in")
    ours = from_hugging_face(tmp_path / "in")
    images, tensor = pixels()
    assert_close(ours(images), numpy(theirs(tensor).logits))
    save_hugging_face(ours, tmp_path / "out")
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path / "out").eval()
    assert_same_parameters(theirs, again)
    assert_close(ours(images), numpy(again(tensor).logits))


@pytest.mark.parametrize("change", [{"hidden_act": "gelu_new"}, {"layer_norm_eps": 1e-4}])
def test_activation_and_epsilon_tell(tmp_path, change):
    """The test above could not pass with another gelu or epsilon."""
    theirs = randomized(transformers.ViTForImageClassification(vit()))
    theirs.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    images, tensor = pixels()
    logits = numpy(theirs(tensor).logits)
    other = np.asarray(from_hugging_face(tmp_path)(images))
    assert np.abs(other - logits).max() > TOLERANCE * np.abs(logits).max()


def test_freshly_initialised_weights(tmp_path):
    """Small weights make small variances, where the epsilon of 1e-12 matters."""
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification(vit()).eval()
    theirs.save_pretrained(tmp_path)
    images, tensor = pixels()
    assert_close(from_hugging_face(tmp_path)(images), numpy(theirs(tensor).logits))


@pytest.mark.parametrize(
    "facts",
    [
        {"image_size": (16, 40)},
        {"patch_size": (8, 4), "image_size": (32, 16)},
        {"qkv_bias": False},
        {"num_labels": 1},
    ],
)
def test_variants_of_the_classifier(tmp_path, facts):
    theirs = randomized(transformers.ViTForImageClassification(vit(**facts)))
    theirs.save_pretrained(tmp_path / "in")
    ours = from_hugging_face(tmp_path / "in")
    images, tensor = pixels(*ours.input_shape[1:3])
    assert_close(ours(images), numpy(theirs(tensor).logits))
    save_hugging_face(ours, tmp_path / "out")
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path / "out").eval()
    assert_close(ours(images), numpy(again(tensor).logits))


def test_model_with_pooler(tmp_path):
    theirs = randomized(transformers.ViTModel(vit(pooler_output_size=24)))
    theirs.save_pretrained(tmp_path / "in")
    ours = from_hugging_face(tmp_path / "in")
    images, tensor = pixels()
    outputs = theirs(tensor)
    assert_close(ours(images), numpy(outputs.pooler_output))
    without = from_hugging_face(tmp_path / "in", pre_logits=False)
    assert_close(without(images), numpy(outputs.last_hidden_state[:, 0]))
    save_hugging_face(ours, tmp_path / "out")
    again = transformers.ViTModel.from_pretrained(tmp_path / "out").eval()
    assert_same_parameters(theirs, again)


def test_class_token_without_head(tmp_path):
    theirs = randomized(transformers.ViTForImageClassification(vit()))
    theirs.save_pretrained(tmp_path / "in")
    ours = from_hugging_face(tmp_path / "in", classes=0)
    save_hugging_face(ours, tmp_path / "out")
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path / "out").eval()
    images, tensor = pixels()
    assert again.num_labels == 0
    assert_close(ours(images), numpy(again(tensor).logits))


def test_bfloat16_folder(tmp_path):
    theirs = randomized(transformers.ViTForImageClassification(vit())).to(torch.bfloat16)
    theirs.save_pretrained(tmp_path)
    images, tensor = pixels()
    assert_close(from_hugging_face(tmp_path)(images), numpy(theirs.float()(tensor).logits))


def test_class_names(tmp_path):
    theirs = randomized(transformers.ViTForImageClassification(vit(num_labels=2)))
    theirs.save_pretrained(tmp_path / "in")
    save_hugging_face(from_hugging_face(tmp_path / "in"), tmp_path / "out", ["ant", "bee"])
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "ant", 1: "bee"}


def test_old_pickled_weights(tmp_path):
    theirs = randomized(transformers.ViTForImageClassification(vit()))
    theirs.save_pretrained(tmp_path)
    from safetensors.torch import load_file

    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    images, tensor = pixels()
    assert_close(from_hugging_face(tmp_path)(images), numpy(theirs(tensor).logits))


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh"])
def test_siglip_image_tower(tmp_path, activation):
    config = transformers.SiglipVisionConfig(**IMAGES, hidden_act=activation)
    theirs = randomized(transformers.SiglipVisionModel(config))
    theirs.save_pretrained(tmp_path / "in")
    ours = from_hugging_face(tmp_path / "in")
    images, tensor = pixels()
    assert_close(ours(images), numpy(theirs(tensor).pooler_output))
    save_hugging_face(ours, tmp_path / "out")
    again = transformers.SiglipVisionModel.from_pretrained(tmp_path / "out").eval()
    assert_same_parameters(theirs, again)


def test_siglip_two_towers(tmp_path):
    text = {**TEXTS, "num_attention_heads": 2, "intermediate_size": 40, **NO_CLIP_TOKENS}
    config = transformers.SiglipConfig(vision_config=IMAGES, text_config=text)
    theirs = randomized(transformers.SiglipModel(config))
    theirs.save_pretrained(tmp_path / "in")
    ours = from_hugging_face(tmp_path / "in")
    images, tensor = pixels()
    tokens = np.random.default_rng(2).integers(0, 50, (4, 6)).astype(np.int32)
    expected = theirs(input_ids=torch.from_numpy(tokens.astype(np.int64)), pixel_values=tensor)
    outputs = ours({"image": images, "tokens": tokens})
    assert_close(outputs["similarity_logits"], numpy(expected.logits_per_image))
    assert_close(outputs["zimg"], numpy(expected.image_embeds))
    assert_close(outputs["ztxt"], numpy(expected.text_embeds))
    image_tower = from_hugging_face(tmp_path / "in", tower="image")
    assert_close(image_tower(images), numpy(theirs.vision_model(tensor).pooler_output))
    save_hugging_face(ours, tmp_path / "out")
    again = transformers.SiglipModel.from_pretrained(tmp_path / "out").eval()
    assert_same_parameters(theirs, again)


def test_siglip_with_other_widths_of_the_towers(tmp_path):
    """As So400m's: the text tower's head leads to the image tower's width."""
    text = {**TEXTS, "hidden_size": 24, "projection_size": 32, **NO_CLIP_TOKENS}
    config = transformers.SiglipConfig(vision_config=IMAGES, text_config=text)
    theirs = randomized(transformers.SiglipModel(config))
    theirs.save_pretrained(tmp_path)
    images, tensor = pixels()
    tokens = np.random.default_rng(2).integers(0, 50, (4, 6)).astype(np.int32)
    expected = theirs(input_ids=torch.from_numpy(tokens.astype(np.int64)), pixel_values=tensor)
    outputs = from_hugging_face(tmp_path)({"image": images, "tokens": tokens})
    assert_close(outputs["similarity_logits"], numpy(expected.logits_per_image))


def test_resized_positions_keep_the_rest(tmp_path):
    theirs = randomized(transformers.ViTForImageClassification(vit()))
    theirs.save_pretrained(tmp_path)
    small = named_weights(from_hugging_face(tmp_path))
    large = named_weights(from_hugging_face(tmp_path, image_size=48))
    name = "Transformer/posembed_input/pos_embedding"
    assert large[name].shape == (1, 37, 32)
    np.testing.assert_array_equal(np.asarray(large[name])[:, 0], np.asarray(small[name])[:, 0])


def test_classifier_of_siglip_is_refused(tmp_path):
    config = transformers.SiglipConfig(
        vision_config=IMAGES, text_config={**TEXTS, **NO_CLIP_TOKENS}
    )
    transformers.SiglipForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'SiglipForImageClassification'; expected one of Siglip"):
        from_hugging_face(tmp_path)
