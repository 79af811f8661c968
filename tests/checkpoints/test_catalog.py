"""The catalogue of published checkpoints."""

import csv
import dataclasses
import io
import pathlib
import urllib.parse

import numpy as np
import pytest

import vit_keras
from vit_keras.checkpoints import catalog
from vit_keras.checkpoints.augreg_index import AugRegRow
from vit_keras.checkpoints.download import DownloadError, https_url
from vit_keras.checkpoints.table import Table


def npz_bytes(value=1.0):
    buffer = io.BytesIO()
    np.savez(buffer, a=np.full(8, value))
    return buffer.getvalue()


PUBLISHED = {
    (
        "B/16",
        "augreg",
    ): "vit_models/augreg/B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0",
    ("R50+L/32", "augreg"): (
        "vit_models/augreg/R50_L_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1"
    ),
    ("R+Ti/16", "augreg"): (
        "vit_models/augreg/R_Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
    ),
    ("Ti/16", "augreg+imagenet2012"): (
        "vit_models/augreg/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0"
        "--imagenet2012-steps_20k-lr_0.03-res_384"
    ),
    ("H/14", "imagenet21k"): "vit_models/imagenet21k/ViT-H_14",
    ("R26+B/32", "imagenet21k"): "vit_models/imagenet21k/R26+ViT-B_32",
    ("L/16", "imagenet21k+imagenet2012"): "vit_models/imagenet21k+imagenet2012/ViT-L_16",
    ("R50+B/16", "imagenet21k+imagenet2012"): ("vit_models/imagenet21k+imagenet2012/R50+ViT-B_16"),
    ("Mixer-L/16", "imagenet1k"): "mixer_models/imagenet1k/Mixer-L_16",
    ("Mixer-B/16", "imagenet21k"): "mixer_models/imagenet21k/Mixer-B_16",
    ("L/32", "sam"): "vit_models/sam/ViT-L_32",
    ("B/32", "gsam"): "vit_models/gsam/ViT-B_32",
    ("Mixer-S/8", "gsam"): "mixer_models/gsam/Mixer-S_8",
    ("LiT-L16Ti", "lit"): "vit_models/lit/LiT-L16Ti",
}


@pytest.mark.parametrize(("asked", "path"), PUBLISHED.items())
def test_published_names(asked, path):
    assert catalog.resolve(*asked) == f"gs://{path}.npz"


def test_families_of_the_issue():
    assert {
        "augreg",
        "imagenet21k",
        "imagenet21k+imagenet2012",
        "imagenet1k",
        "sam",
        "gsam",
        "lit",
    } <= set(catalog.families())


def test_every_entry_is_reached_and_distinct():
    entries = catalog.checkpoints()
    assert len({entry.url for entry in entries}) == len(entries)
    for entry in entries:
        assert https_url(entry.url).startswith("https://")
        found = catalog.find(entry.variant, entry.family, entry.image_size)
        same = [e for e in entries if (e.family, e.variant) == (entry.family, entry.variant)]
        if len([e for e in same if e.image_size == entry.image_size]) == 1:
            assert found is entry
        else:
            assert found in same


@pytest.mark.parametrize(
    "alias", ["B/16", "ViT-B_16", "B_16", "b16", "vit_b16", "ViT-B/16", "ViT-B_16-gap-norep"]
)
def test_aliases(alias):
    assert catalog.published_variant(alias) == "B/16"


@pytest.mark.parametrize(
    ("alias", "variant"),
    [
        ("R50+ViT-L_32", "R50+L/32"),
        ("R50_L_32", "R50+L/32"),
        ("R_Ti_16", "R+Ti/16"),
        ("mixer_b16", "Mixer-B/16"),
        ("LiT-B16B_2", "LiT-B16B_2"),
        ("siglip_b16", "SigLIP-B/16"),
    ],
)
def test_more_aliases(alias, variant):
    assert catalog.published_variant(alias) == variant


def test_image_size_chooses():
    family = "imagenet21k+imagenet2012"
    assert catalog.resolve("B/16", family).endswith("/ViT-B_16.npz")
    assert catalog.resolve("B/16", family, 224).endswith("/ViT-B_16-224.npz")
    assert catalog.resolve("B/16", family, (224, 224)).endswith("/ViT-B_16-224.npz")
    assert catalog.resolve("B/16", family, (224, 448)).endswith("/ViT-B_16.npz")
    assert catalog.resolve("B/16", family, 512).endswith("/ViT-B_16.npz")
    assert "_512_" in catalog.resolve("SigLIP-B/16", "siglip", 512)


def test_file_names():
    name = "ViT-B_16-224"
    assert catalog.resolve(None, name).endswith(f"imagenet21k+imagenet2012/{name}.npz")
    assert catalog.resolve("b16", f"{name}.npz").endswith(f"{name}.npz")
    with pytest.raises(ValueError, match="a checkpoint of B/16; variant is 'L/16'"):
        catalog.resolve("L/16", name)
    with pytest.raises(ValueError, match=r"several families.*imagenet21k.*sam, gsam"):
        catalog.resolve(None, "ViT-B_16")


def test_any_augreg_file():
    stem = "S_16-i1k-300ep-lr_0.001-aug_strong2-wd_0.1-do_0.1-sd_0.1"
    adapted = f"{stem}--cifar100-steps_2k-lr_0.003-res_224"
    for name in (stem, adapted, f"{stem}.npz"):
        url = f"gs://vit_models/augreg/{name.removesuffix('.npz')}.npz"
        assert catalog.resolve(None, name) == url
        assert catalog.resolve("ViT-S_16", name) == url
    with pytest.raises(ValueError, match="a checkpoint of S_16; variant is 'B/16'"):
        catalog.resolve("B/16", stem)


def test_addresses_and_paths(tmp_path):
    for url in ("gs://b/x.npz", "https://h/x.npz", "http://h/x.npz"):
        assert catalog.resolve("B/16", url) == url
    path = tmp_path / "model.npz"
    path.write_bytes(npz_bytes())
    assert catalog.resolve("B/16", path) == str(path)
    assert catalog.fetch(None, path) == str(path)
    assert catalog.resolve(None, tmp_path) == str(tmp_path)
    with pytest.raises(ValueError, match=r"no such file\. Did you mean '.*model\.npz'"):
        catalog.resolve(None, tmp_path / "modl.npz")


def test_combination_that_does_not_exist():
    with pytest.raises(
        ValueError, match=r"'sam', which has no S/32; for that there is augreg.*gsam"
    ):
        catalog.resolve("S/32", "sam")
    with pytest.raises(ValueError, match=r"has no Ti/16.*'imagenet21k' has B/8, B/16"):
        catalog.resolve("Ti/16", "imagenet21k")


def test_unknown_names():
    with pytest.raises(ValueError, match="Did you mean 'imagenet21k'"):
        catalog.resolve("B/16", "imagnet21k")
    with pytest.raises(ValueError, match=r"variant is 'B/17'.*Nearest: B/16"):
        catalog.resolve("B/17", "sam")
    with pytest.raises(ValueError, match=r"which has no B/16; .*'siglip' has SigLIP-B/16"):
        catalog.resolve("B/16", "siglip")
    with pytest.raises(ValueError, match="a variant is needed"):
        catalog.resolve(None, "sam")


def test_fetch(file_server):
    file_server.serve("/vit_models/sam/ViT-B_16.npz", npz_bytes(1))
    file_server.serve("/vit_models/imagenet21k/ViT-B_16.npz", npz_bytes(2))
    sam = catalog.fetch("B/16", "sam", progress=False)
    plain = catalog.fetch("B/16", "imagenet21k", progress=False)
    assert np.load(sam)["a"][0] == 1
    assert np.load(plain)["a"][0] == 2


def test_from_npz_takes_an_address(file_server):
    golden = pathlib.Path(__file__).parent.parent / "goldens" / "vit_token_legacy"
    file_server.serve("/bucket/folder/vit.npz", (golden / "checkpoint.npz").read_bytes())
    model = vit_keras.from_npz("gs://bucket/folder/vit.npz")
    with np.load(golden / "expected.npz") as expected:
        images = ((expected["images_uint8"] - 127.5) / 127.5).astype(np.float32)
    local = vit_keras.from_npz(golden / "checkpoint.npz")
    np.testing.assert_array_equal(np.asarray(model(images)), np.asarray(local(images)))


def test_vocabulary(file_server):
    file_server.serve("/vit_models/lit/LiT-B16B.txt", b"[CLS]\n")
    path = catalog.fetch_vocabulary("LiT-B16B", "lit", progress=False)
    assert pathlib.Path(path).read_bytes() == b"[CLS]\n"
    with pytest.raises(ValueError, match="checkpoints with a text tower are LiT-B16B"):
        catalog.fetch_vocabulary("B/16", "sam")


def test_tokenizer_options_are_valid(tmp_path):
    from vit_keras.models.tokenizers import get_tokenizer

    for entry in catalog.checkpoints(vocabulary=lambda v: v is not None):
        with pytest.raises(ValueError, match="no such file"):  # and no complaint about options
            get_tokenizer(vocab_path=tmp_path / "none", **entry.tokenizer)


# AugReg's index


def index_row(name, aug, wd, final_val, adapt_ds=None, resolution=None, test=None, ds="i21k"):
    model = name.replace("+", "_").replace("/", "_")
    stem = f"{model}-{ds}-300ep-lr_0.001-{aug}-wd_{wd}-do_0.0-sd_0.0"
    adapted = adapt_ds and f"{stem}--{adapt_ds}-steps_20k-lr_0.03-res_{resolution}"
    return AugRegRow(
        name=name,
        ds=ds,
        lr=0.001,
        aug=aug.removeprefix("aug_"),
        wd=wd,
        do=0.0,
        sd=0.0,
        best_val=final_val + 0.01,
        final_val=final_val,
        final_test=final_val,
        adapt_ds=adapt_ds,
        adapt_lr=adapt_ds and 0.03,
        adapt_steps=adapt_ds and 20_000,
        adapt_resolution=resolution,
        adapt_final_val=test,
        adapt_final_test=test,
        params=86_567_656,
        infer_samples_per_sec=861.2,
        filename=stem,
        adapt_filename=adapted,
    )


ROWS = [
    index_row("B/16", "aug_light1", 0.1, 0.43, "cifar100", 224, 0.91),
    index_row("B/16", "aug_medium1", 0.1, 0.45, "cifar100", 224, 0.92),
    index_row("B/16", "aug_medium1", 0.1, 0.45, "imagenet2012", 384, 0.8549),
    index_row("B/16", "aug_strong1", 0.03, 0.80, "imagenet2012", 384, 0.81, ds="i1k"),
    index_row("R50+L/32", "aug_medium1", 0.1, 0.46),
]


def index_bytes(rows=ROWS, drop=()):
    text = io.StringIO()
    columns = [f.name for f in dataclasses.fields(AugRegRow) if f.name not in drop]
    writer = csv.DictWriter(text, columns, extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        cells = dataclasses.asdict(row)
        writer.writerow({k: "" if v is None else v for k, v in cells.items()})
    return text.getvalue().encode()


@pytest.fixture
def index(file_server):
    file_server.serve("/vit_models/augreg/index.csv", index_bytes(), content_type="text/csv")
    return file_server


def test_index_is_downloaded_once(index):
    table = catalog.augreg(progress=False)
    assert list(table) == ROWS
    assert catalog.augreg(progress=False) is table or list(catalog.augreg()) == ROWS
    assert len(index.requests) == 1


def test_index_filters(index):
    assert len(catalog.augreg(name="B/16", ds="i21k")) == 3
    assert len(catalog.augreg(adapt_resolution=384, adapt_final_test=lambda v: v > 0.85)) == 1
    assert len(catalog.augreg(wd={0.03, 0.5})) == 1
    assert len(catalog.augreg(adapt_ds=None)) == 1
    assert len(catalog.augreg(adapt_resolution=999)) == 0
    with pytest.raises(ValueError, match=r"name is 'B/61'; no row has that\. Near it: B/16"):
        catalog.augreg(name="B/61")
    with pytest.raises(ValueError, match=r"column is 'finalval'.*Nearest: final_val"):
        catalog.augreg(finalval=0.5)


def test_index_recommends_the_highest_final_val_of_i21k(index):
    best = catalog.augreg().recommended("B/16")
    assert best.filename == ROWS[1].filename
    assert best.url == catalog.resolve("B/16", "augreg")
    assert catalog.augreg(name="B/16").recommended("B/16") == best
    with pytest.raises(ValueError, match="Near it: B/16"):
        catalog.augreg().recommended("B/15")
    with pytest.raises(ValueError, match="no row has that"):
        catalog.augreg(ds="i1k").recommended("B/16")


def test_index_sorting_and_printing(index):
    table = catalog.augreg()
    ordered = table.sort("adapt_final_test", descending=True)
    assert [row.adapt_final_test for row in ordered] == [0.92, 0.91, 0.8549, 0.81, None]
    assert [row.adapt_final_test for row in table.sort("adapt_final_test")][-1] is None
    assert len(table.distinct("filename")) == 4
    assert table[0].adapt_url.endswith("res_224.npz")
    assert table[-1].adapt_url is None
    text = repr(table[:2])
    assert text.splitlines()[0].startswith("name")
    assert len(text.splitlines()) == 3
    assert table.to_string(["name", "final_val"], rows=1).splitlines() == [
        "name  final_val",
        "B/16  0.43",
        "... 5 rows",
    ]


def test_index_types(index):
    row = catalog.augreg()[0]
    assert isinstance(row.adapt_steps, int)
    assert isinstance(row.wd, float)
    assert catalog.augreg()[-1].adapt_ds is None


def test_another_file_as_index(tmp_path):
    path = tmp_path / "index.csv"
    path.write_bytes(index_bytes(drop=("final_val",)))
    with pytest.raises(ValueError, match="no column final_val"):
        catalog.augreg(index=path)
    path.write_bytes(index_bytes().replace(b"0.43", b"high"))
    with pytest.raises(ValueError, match="line 2: could not convert"):
        catalog.augreg(index=path)
    path.write_bytes(index_bytes()[:300])
    with pytest.raises(ValueError, match="line 2"):
        catalog.augreg(index=path)


def test_augreg_name_that_does_not_exist(index):
    wrong = ROWS[0].filename.replace("wd_0.1", "wd_0.2")
    with pytest.raises(ValueError, match=f"no such file.*{ROWS[0].filename}"):
        catalog.fetch(None, wrong, progress=False)
    adapted = ROWS[0].adapt_filename.replace("cifar100", "cifar1000")
    with pytest.raises(ValueError, match=f"no such file.*{ROWS[0].adapt_filename}"):
        catalog.fetch(None, adapted, progress=False)


def test_missing_file_without_an_index(file_server):
    with pytest.raises(DownloadError, match="404"):
        catalog.fetch(None, ROWS[0].filename, progress=False)


def test_index_read_of_published_size(tmp_path):
    """All 50,000 rows are read and filtered."""
    path = tmp_path / "index.csv"
    path.write_bytes(index_bytes(ROWS * 10_000))
    assert len(catalog.augreg(index=path, name="B/16")) == 40_000


def test_table_needs_known_columns():
    table = Table(AugRegRow, ROWS)
    assert table.columns[0] == "name"
    assert table.column("wd") == [0.1, 0.1, 0.1, 0.03, 0.1]
    for wrong in (lambda: table.sort("nme"), lambda: table.distinct("nme")):
        with pytest.raises(ValueError, match="Nearest: name"):
            wrong()


def test_plus_is_encoded(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    url = https_url(catalog.resolve("R50+B/16", "imagenet21k+imagenet2012"))
    assert "+" not in url
    assert urllib.parse.unquote(url).endswith("imagenet21k+imagenet2012/R50+ViT-B_16.npz")
