"""Whole contrastive runs on a data set with captions, on one and two replicas."""

import json
from pathlib import Path

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

import tpu_configs
from vit_keras.training import train
from vit_keras.training.evaluators.retrieval import _recall

VOCABULARY = Path(tpu_configs.__file__).parent / "vocabularies" / "digits.txt"
BLOCKS = {"hidden_size": 32, "mlp_dim": 32, "num_heads": 1, "num_layers": 1}


class DescribedDigits(tfds.core.GeneratorBasedBuilder):
    """Real digits with two captions each, and no labels."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        captions = tfds.features.Sequence({"text": tfds.features.Text()})
        image = tfds.features.Image(shape=(8, 8, 3), encoding_format="png")
        features = tfds.features.FeaturesDict({"image": image, "captions": captions})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0, 32), "val": self._generate_examples(32, 43)}

    def _generate_examples(self, first, last):
        images, digits = load_digits(return_X_y=True)
        for i in range(first, last):
            image = np.repeat(images[i].reshape(8, 8, 1) * 15, 3, -1).astype(np.uint8)
            texts = [f"a photo of the digit {digits[i]}.", f"the number {digits[i]}."]
            yield i, {"image": image, "captions": [{"text": text} for text in texts]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    builder = DescribedDigits(data_dir=str(tmp_path_factory.mktemp("tfds")))
    builder.download_and_prepare()
    return str(builder.data_dir)


def config(folder, **changes):
    return ml_collections.ConfigDict(
        {
            "pretrained_dir": None,
            "model": {
                "model_name": "SigLIP-B/16",
                "image": BLOCKS,
                "text": {**BLOCKS, "vocab_size": 32, "max_length": 8, "classes": 32},
            },
            "dataset": folder,
            "text": {
                "feature": "captions/text",
                "tokenizer": "wordpiece",
                "vocabulary": str(VOCABULARY),
            },
            "pp": {"crop": 32, "train": "train", "test": "val"},
            "optimizer": "adam",
            "optim_dtype": "float32",
            "base_lr": 1e-3,
            "loss": "sigmoid",
            "batch": 8,
            "batch_eval": 8,
            "accum_steps": 1,
            "total_steps": 3,
            "warmup_steps": 0,
            "progress_every": 1,
            "shuffle_buffer": 8,
            **changes,
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sigmoid", "softmax"])
def test_replicas_make_no_difference(folder, tmp_path, loss):
    losses, metrics = [], []
    for replicas in (1, 2):
        workdir = tmp_path / str(replicas)
        run = config(folder, loss=loss, strategy="mirrored", num_devices=replicas)
        result = train(run, workdir)
        lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if "loss" in line])
        metrics.append({k: v for k, v in result.metrics.items() if k.startswith("test")})
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert len(losses[0]) == 3
    assert metrics[0]["test/examples"] == 11
    assert metrics[0] == metrics[1]
    assert set(metrics[0]) == {"test/examples", "test/image_to_text", "test/text_to_image"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": {"feature": "captions/text"}}, "config.text.vocabulary is not set"),
        ({"text": {"feature": "captions/txt"}}, "Did you mean 'captions/text'"),
        ({"text": {"tokeniser": "wordpiece"}}, "Did you mean 'text.tokenizer'"),
        ({"mixup": 0.2}, r"config\.mixup is 0\.2, but two towers"),
        ({"head_bias": -10.0}, r"config\.head_bias is -10\.0, but the model has no head"),
        ({"loss": "sigmod"}, "expected 'softmax' or 'sigmoid'"),
        ({"flexi": {"patch_sizes": (8,)}}, "isn't a ViT"),
    ],
)
def test_wrong_configs(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(config(folder, strategy="one_device", **changes), tmp_path)


def test_recall():
    keys = np.eye(4, dtype=np.float32)
    assert _recall(keys, keys) == 1.0
    assert _recall(keys[[1, 0, 2, 3]], keys) == 0.5
