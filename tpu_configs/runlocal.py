"""`runlocal`: the same experiment, shrunk until it runs on two cores in seconds.

Optimizer, schedule, augmentation, loss, mixing and the like stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import ml_collections

HERE = Path(__file__).resolve().parent

PIXELS = 64
_BLOCKS = {"hidden_size": 32, "mlp_dim": 64, "num_heads": 2, "num_layers": 1}
_MIXER = {"hidden_size": 32, "tokens_mlp_dim": 16, "channels_mlp_dim": 64, "num_layers": 1}
# One unit in as many stages as the variant has.
_STEMS = {"R": (), "R26": (1, 1, 1, 1), "R50": (1, 1, 1, 1)}
_STEM_OF_R50_B16 = (1, 1, 1)


def pixels(size: int, runlocal: bool) -> int:
    """`size`, or how many pixels a local run has."""
    return PIXELS if runlocal else size


def shrink(config: ml_collections.ConfigDict) -> None:
    """Makes everything small but `config.pp`'s size and pipelines, for which see `pixels`."""
    config.model.update(_tiny_model(config.model.model_name))
    config.pretrained_dir = config.model_or_filename = None
    config.dataset = "sklearn_digits"
    config.pp.train, config.pp.test = "train", "test[:16]"
    config.cache_raw = False
    config.shuffle_buffer = 64
    shorten(config)


def shorten(config: ml_collections.ConfigDict) -> None:
    """Makes the run itself short, and leaves model and data alone."""
    config.accum_steps = min(config.accum_steps, 2)
    config.batch, config.batch_eval = 8, 8
    config.total_steps, config.warmup_steps = 3, 1
    for kind in ("total", "warmup"):
        config[f"{kind}_epochs"] = config[f"{kind}_examples"] = None
    config.eval_every = config.checkpoint_every = 0
    config.progress_every = 1


def shrink_towers(config: ml_collections.ConfigDict) -> None:
    """Small towers, and captions that are made of the digits' names."""
    config.model.image = ml_collections.ConfigDict(_BLOCKS)
    config.model.text = ml_collections.ConfigDict(
        {
            **_BLOCKS,
            "num_heads": 1,  # what `from_npz` takes a BERT of this width for
            "vocab_size": 32,
            "max_length": 8,
            "classes": _BLOCKS["hidden_size"],
        }
    )
    config.model.image_weights = None
    config.text.max_length = 8
    config.text.feature = None
    config.text.templates = ("a photo of the digit {}.", "the number {}.")
    config.text.tokenizer = "wordpiece"
    config.text.vocabulary = str(HERE / "vocabularies" / "digits.txt")
    config.text.options = ml_collections.ConfigDict()


def _tiny_model(name: str) -> dict:
    if name.startswith("Mixer"):
        return _MIXER
    if name.startswith(("SigLIP", "LiT")):
        return {}
    if "+" not in name:
        return _BLOCKS
    stem = _STEM_OF_R50_B16 if name == "R50+ViT-B_16" else _STEMS[name.split("+")[0]]
    return {**_BLOCKS, "stem": stem}
