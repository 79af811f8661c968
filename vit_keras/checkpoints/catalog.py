"""Every published checkpoint by name.

Usage:
  >>> from vit_keras import catalog
  >>> catalog.resolve("B/16", "augreg")          # the address of the recommended AugReg file
  >>> catalog.fetch("L/16", "imagenet21k")       # downloads it, returns the local path
  >>> catalog.checkpoints(variant="B/16")        # what there is
  >>> catalog.augreg(name="S/16", ds="i21k")     # AugReg's own index of 50,000 files

File names are spelled as in the buckets. Sources: the README and configs/models.py of
google-research/vision_transformer, the READMEs of google-research/big_vision's projects, and for
the sam and gsam folders, which neither lists, the files that their issues and users name.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
from typing import Any

from vit_keras.checkpoints.augreg_index import DIRECTORY, AugRegRow, AugRegTable, augreg, parse_stem
from vit_keras.checkpoints.download import DownloadError, download, is_remote
from vit_keras.checkpoints.table import Table
from vit_keras.models.variants import canonical_variant

__all__ = [
    "AugRegRow",
    "AugRegTable",
    "Checkpoint",
    "augreg",
    "checkpoints",
    "families",
    "fetch",
    "fetch_vocabulary",
    "find",
    "published_variant",
    "resolve",
]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published file.

    Attributes:
      family: what `weights=` calls it, such as "imagenet21k".
      variant: the architecture, such as "B/16", "R50+L/32", "Mixer-B/16", "LiT-B16B".
      name: the file's name without .npz, as published.
      directory: its folder, gs://bucket/folder.
      image_size: side in pixels of the images that its position embeddings are for.
      classes: outputs of its head; None for two towers and headless files.
      vocabulary: gs:// address of its text tower's vocabulary, None without text tower.
      tokenizer: arguments of `get_tokenizer` (but the vocabulary) that its text tower needs.
    """

    family: str
    variant: str
    name: str
    directory: str
    image_size: int
    classes: int | None = None
    vocabulary: str | None = None
    tokenizer: dict[str, Any] | None = None

    @property
    def url(self) -> str:
        """Its gs:// address."""
        return f"{self.directory}/{self.name}.npz"


def _folder(
    family: str, directory: str, names: str, image_size: int, classes: int | None
) -> list[Checkpoint]:
    """Files named after their variant: "ViT-B_16" is B/16, "Mixer-B_16" is Mixer-B/16."""
    return [
        Checkpoint(
            family,
            name.replace("ViT-", "").replace("_", "/"),
            name,
            f"gs://{directory}/{family}",
            image_size,
            classes,
        )
        for name in names.split()
    ]


# arXiv 2106.10270, the recommended ones: highest final_val among those pre-trained on i21k; behind
# the bar what the best fine-tuning on ImageNet-1k at 384 px adds to the name.
_AUGREG_RECOMMENDED = {
    "L/16": ("aug_strong1-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    "B/16": ("aug_medium1-wd_0.1-do_0.0-sd_0.0", "lr_0.03"),
    "S/16": ("aug_light1-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    "R50+L/32": ("aug_medium1-wd_0.1-do_0.1-sd_0.1", "lr_0.01"),
    "R26+S/32": ("aug_light1-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    "Ti/16": ("aug_none-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    "B/32": ("aug_light1-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    "S/32": ("aug_none-wd_0.1-do_0.0-sd_0.0", "lr_0.01"),
    "R+Ti/16": ("aug_none-wd_0.03-do_0.0-sd_0.0", "lr_0.03"),
    "B/8": ("aug_medium2-wd_0.1-do_0.0-sd_0.0", None),  # recommended by big_vision's vit.py
}


def _augreg() -> list[Checkpoint]:
    found = []
    for variant, (regularization, adapt_lr) in _AUGREG_RECOMMENDED.items():
        stem = f"{_augreg_model(variant)}-i21k-300ep-lr_0.001-{regularization}"
        found.append(Checkpoint("augreg", variant, stem, DIRECTORY, 224, 21843))
        if adapt_lr:
            stem += f"--imagenet2012-steps_20k-{adapt_lr}-res_384"
            found.append(Checkpoint("augreg+imagenet2012", variant, stem, DIRECTORY, 384, 1000))
    return found


def _augreg_model(variant: str) -> str:
    """How AugReg's files spell a variant: "R50_L_32" for "R50+L/32"."""
    return re.sub(r"[+/]", "_", variant)


def _lit() -> list[Checkpoint]:
    directory = "gs://vit_models/lit"
    word_piece = {"kind": "wordpiece", "max_length": 16}
    # vision_transformer's SentencepieceTokenizer pads with </s>, keeps the last one, and doesn't
    # change the case.
    sentence_piece = {"kind": "sentencepiece", "max_length": 16, "lowercase": False}
    return [
        Checkpoint("lit", name, name, directory, 224, None, f"{directory}/{name}.{suffix}", tokens)
        for name, suffix, tokens in (
            ("LiT-B16B", "txt", word_piece),
            ("LiT-B16B_2", "txt", word_piece),
            ("LiT-L16L", "txt", word_piece),
            ("LiT-L16S", "model", sentence_piece),
            ("LiT-L16Ti", "model", sentence_piece),
        )
    ]


def _siglip() -> list[Checkpoint]:
    return [
        Checkpoint(
            "siglip",
            variant,
            name,
            "gs://big_vision/siglip",
            size,
            vocabulary="gs://t5-data/vocabs/cc_en.32000/sentencepiece.model",
            tokenizer={"kind": "sentencepiece", "max_length": length, "pad_id": 1},
        )
        for variant, size, length, name in (
            ("SigLIP-B/16", 224, 64, "webli_en_b16_224_63724782"),
            ("SigLIP-B/16", 256, 64, "webli_en_b16_256_60500360"),
            ("SigLIP-B/16", 384, 64, "webli_en_b16_384_68578854"),
            ("SigLIP-B/16", 512, 64, "webli_en_b16_512_68580893"),
            ("SigLIP-L/16", 256, 64, "webli_en_l16_256_60552751"),
            ("SigLIP-L/16", 384, 64, "webli_en_l16_384_63634585"),
            ("SigLIP-So400m/14", 224, 16, "webli_en_so400m_224_57633886"),
            ("SigLIP-So400m/14", 384, 64, "webli_en_so400m_384_58765454"),
        )
    ]


def _big_vision() -> list[Checkpoint]:
    plain = [  # arXiv 2205.01580
        Checkpoint("imagenet1k", "S/16", f"vit_s16_i1k_{epochs}ep", "gs://big_vision", 224, 1000)
        for epochs in (300, 150, 90)
    ]
    flexi = [  # arXiv 2212.08013; the patch embedding is stored for 32 px, inputs are 240 px
        Checkpoint(
            f"flexivit-{'imagenet21k' if 'i21k' in name else 'imagenet1k'}",
            f"{name.split('_')[1].upper()}/32",
            name,
            "gs://big_vision/flexivit",
            240,
            21843 if "i21k" in name else 1000,
        )
        for name in (
            *(
                f"flexivit_{size}_i1k{ep}"
                for size in "lbs"
                for ep in ("", "_600ep", "_300ep", "_90ep")
            ),
            *(f"flexivit_b_i21k_{epochs}ep" for epochs in (1000, 300, 90)),
        )
    ]
    return plain + flexi


# Where several files fit, the first is the one that is meant.
_CHECKPOINTS = Table(
    Checkpoint,
    [
        *_folder(
            "imagenet21k",
            "vit_models",
            "ViT-B_8 ViT-B_16 ViT-B_32 ViT-L_16 ViT-L_32 ViT-H_14 R26+ViT-B_32 R50+ViT-B_16 "
            "R50+ViT-L_32",
            224,
            21843,
        ),
        *_folder("imagenet21k", "mixer_models", "Mixer-B_16 Mixer-L_16", 224, 21843),
        *_folder(
            "imagenet21k+imagenet2012",
            "vit_models",
            "ViT-B_8 ViT-B_16 ViT-B_32 ViT-L_16 ViT-L_32 R50+ViT-B_16",
            384,
            1000,
        ),
        *(
            dataclasses.replace(checkpoint, name=f"{checkpoint.name}-224")
            for checkpoint in _folder(
                "imagenet21k+imagenet2012", "vit_models", "ViT-B_16 ViT-L_16", 224, 1000
            )
        ),
        *_augreg(),
        *_folder("imagenet1k", "mixer_models", "Mixer-B_16 Mixer-L_16", 224, 1000),
        *_folder("sam", "vit_models", "ViT-S_16 ViT-B_16 ViT-B_32 ViT-L_16 ViT-L_32", 224, 1000),
        *_folder("sam", "mixer_models", "Mixer-B_16 Mixer-B_32", 224, 1000),
        *_folder("gsam", "vit_models", "ViT-S_16 ViT-S_32 ViT-B_16 ViT-B_32", 224, 1000),
        *_folder(
            "gsam",
            "mixer_models",
            "Mixer-S_8 Mixer-S_16 Mixer-S_32 Mixer-B_16 Mixer-B_32",
            224,
            1000,
        ),
        *_lit(),
        *_siglip(),
        *_big_vision(),
    ],
)


def families() -> tuple[str, ...]:
    """The names that `weights=` knows."""
    return tuple(dict.fromkeys(_CHECKPOINTS.column("family")))


def checkpoints(variant: str | None = None, **filters: Any) -> Table[Checkpoint]:
    """The published files, or those of a variant and of `filters` (as of `Table.filter`).

    AugReg's more than 50,000 files are in `augreg()`; here are its recommended ones.
    """
    found = _CHECKPOINTS if variant is None else _of_variant(variant)
    return found.filter(**filters)


def published_variant(variant: str) -> str:
    """The catalogue's spelling of a variant: "R50+L/32" for "R50+ViT-L_32" and "r50_l32".

    Raises:
      ValueError: when there is no such variant, or nothing is published for it, with what is.
    """
    found = canonical_variant(variant)
    published = tuple(dict.fromkeys(_CHECKPOINTS.column("variant")))
    if found not in published:
        near = difflib.get_close_matches(found, published, n=1, cutoff=0)
        raise ValueError(
            f"variant is {variant!r}; files are published for {', '.join(published)}. "
            f"Nearest: {near[0]}."
        )
    return found


def _of_variant(variant: str) -> Table[Checkpoint]:
    return _CHECKPOINTS.filter(variant=published_variant(variant))


def find(
    variant: str | None, weights: str, image_size: int | tuple[int, int] | None = None
) -> Checkpoint | None:
    """The catalogue's entry for `weights`, None when that isn't a name of the catalogue.

    Args:
      variant: such as "B/16", in any of the usual spellings; None when `weights` says it all.
      weights: a family ("imagenet21k", ...) or a file's name without .npz.
      image_size: prefers the file made for that size, where there are several ("B/16" of
        "imagenet21k+imagenet2012" exists for 384 and 224 px).

    Raises:
      ValueError: when the family has nothing for the variant, or the file's name is in several
        families, with what there is.
    """
    if weights in families():
        if variant is None:
            raise ValueError(
                f"weights is {weights!r}, a family of several files; a variant is needed too: one "
                f"of {', '.join(dict.fromkeys(checkpoints(family=weights).column('variant')))}."
            )
        return _in_family(variant, weights, image_size)
    named = [c for c in _CHECKPOINTS if c.name == weights.removesuffix(".npz")]
    if len(named) > 1:
        raise ValueError(
            f"weights is {weights!r}, a file name that several families have; expected the family: "
            f"{', '.join(c.family for c in named)}."
        )
    if named and variant is not None and named[0].variant != published_variant(variant):
        raise ValueError(
            f"weights is {weights!r}, a checkpoint of {named[0].variant}; variant is {variant!r}."
        )
    return named[0] if named else None


def _in_family(variant: str, family: str, image_size: int | tuple[int, int] | None) -> Checkpoint:
    of_variant = _of_variant(variant)
    found = [c for c in of_variant if c.family == family]
    if not found:
        has = dict.fromkeys(of_variant.column("family"))
        others = dict.fromkeys(_CHECKPOINTS.filter(family=family).column("variant"))
        raise ValueError(
            f"weights is {family!r}, which has no {published_variant(variant)}; for that there is "
            f"{', '.join(has)}, and {family!r} has {', '.join(others)}."
        )
    side = image_size if isinstance(image_size, int | None) else _square(image_size)
    return next((c for c in found if c.image_size == side), found[0])


def _square(image_size: tuple[int, int]) -> int | None:
    return image_size[0] if image_size[0] == image_size[1] else None


def resolve(
    variant: str | None, weights: str | os.PathLike, image_size: int | tuple[int, int] | None = None
) -> str:
    """Where the checkpoint is that `variant` and `weights` mean: a URL, or a local path.

    Nothing is downloaded.

    Args:
      variant: such as "B/16"; None when `weights` is a file rather than a family.
      weights: one of
        - a family: "augreg" (the recommended file), "augreg+imagenet2012" (its fine-tuning at
          384 px), "imagenet21k", "imagenet21k+imagenet2012", "imagenet1k", "sam", "gsam", "lit",
          "siglip", "flexivit-imagenet1k", "flexivit-imagenet21k";
        - the name of a file in the catalogue, or of any AugReg file, without .npz
          ("B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0");
        - a URL (https://, http://, gs://) or the path of an existing file or folder.
      image_size: see `find`.

    Raises:
      ValueError: when there is no such checkpoint, naming what there is.
    """
    weights = os.fspath(weights)
    if is_remote(weights):
        return weights
    found = find(variant, weights, image_size)
    if found is not None:
        return found.url
    stem = weights.removesuffix(".npz")
    if (parsed := parse_stem(stem)) and not os.path.exists(weights):
        model, _ = parsed
        if variant is not None and canonical_variant(variant) != canonical_variant(model):
            raise ValueError(
                f"weights is {weights!r}, a checkpoint of {model}; variant is {variant!r}."
            )
        return f"{DIRECTORY}/{stem}.npz"
    if os.path.exists(weights):
        return weights
    raise _unknown_weights(variant, weights)


def _unknown_weights(variant: str | None, weights: str) -> ValueError:
    if os.sep in weights or weights.endswith((".npz", ".safetensors", ".pth")):
        folder = os.path.dirname(weights) or "."
        names = os.listdir(folder) if os.path.isdir(folder) else []
        near = difflib.get_close_matches(os.path.basename(weights), names, n=1)
        hint = f" Did you mean {os.path.join(folder, near[0])!r}?" if near else ""
        return ValueError(f"weights is {weights!r}; there is no such file.{hint}")
    known = [*families(), *_CHECKPOINTS.column("name")]
    near = difflib.get_close_matches(weights, known, n=1, cutoff=0.4)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    there = variant and published_variant(variant)
    has = _CHECKPOINTS.filter(variant=there).column("family") if there else families()
    return ValueError(
        f"weights is {weights!r}; expected one of {', '.join(dict.fromkeys(has))}"
        f"{f' (for {there})' if there else ''}, the name of an AugReg file, a URL, or the path "
        f"of a file.{hint}"
    )


def fetch(
    variant: str | None,
    weights: str | os.PathLike,
    image_size: int | tuple[int, int] | None = None,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> str:
    """As `resolve`, but downloads what is remote; returns a local path.

    Raises:
      ValueError: as `resolve`; also for an AugReg name that the index doesn't have.
      DownloadError: as `download`.
    """
    address = resolve(variant, weights, image_size)
    if not is_remote(address):
        return address
    try:
        return download(address, cache_dir, progress=progress)
    except DownloadError as error:
        near = _near_in_index(address, cache_dir) if error.status == 404 else ""
        if near:
            raise ValueError(f"weights is {os.fspath(weights)!r}; {near}") from error
        raise


def _near_in_index(address: str, cache_dir: str | os.PathLike | None) -> str:
    """What AugReg's index has instead of a file that isn't there; empty when it can't tell."""
    stem = address.removeprefix(f"{DIRECTORY}/").removesuffix(".npz")
    parsed = parse_stem(stem)
    if parsed is None:
        return ""
    try:
        table = augreg(cache_dir=cache_dir, progress=False)
    except (DownloadError, ValueError):
        return ""
    column = "adapt_filename" if parsed[1] else "filename"
    names = {name for name in table.column(column) if name and name.startswith(f"{parsed[0]}-")}
    near = difflib.get_close_matches(stem, names, n=3, cutoff=0)
    return f"AugReg has no such file. Near it: {', '.join(near)}." if near else ""


def fetch_vocabulary(
    variant: str | None,
    weights: str,
    image_size: int | tuple[int, int] | None = None,
    cache_dir: str | os.PathLike | None = None,
    progress: bool = True,
) -> str:
    """Downloads the vocabulary of a published text tower; returns its local path.

    Raises:
      ValueError: when the checkpoint isn't in the catalogue or has no text tower.
      DownloadError: as `download`.
    """
    found = find(variant, weights, image_size)
    if found is None or found.vocabulary is None:
        with_text = [c.name for c in _CHECKPOINTS if c.vocabulary]
        raise ValueError(
            f"weights is {weights!r}; checkpoints with a text tower are {', '.join(with_text)}."
        )
    return download(found.vocabulary, cache_dir, progress=progress)
