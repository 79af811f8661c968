"""Mutated checkpoints: each is read with the right outputs, or refused with a clear error."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vit_keras

GOLDENS = Path(__file__).parents[1] / "goldens"
CASES = (
    "vit_token_legacy_prelogits",
    "bv_map_scan",
    "hybrid_stem_only",
    "mixer",
    "siglip_two_towers_map_last",
)

# Without it the rest is a whole checkpoint of another kind, which nothing in the file gives away:
# SigLIP without bias is LiT.
OPTIONAL = {"params/b"}
# Axes that may be shorter, which makes another model: a smaller vocabulary, shorter texts, images
# of fewer channels.
OPEN_ENDED = {
    "params/txt/Embed_0/embedding": 0,
    "params/txt/pos_embedding": 1,
    "embedding/kernel": 2,
    "params/img/embedding/kernel": 2,
    "conv_root/kernel": 2,
    "stem/kernel": 2,
}


def outputs(model, expected):
    images = (expected["images_uint8"].astype(np.float32) - 127.5) / 127.5
    if "tokens" in expected:
        found = model({"image": images, "tokens": expected["tokens"]})
        return {key: found[key] for key in ("zimg", "ztxt", "similarity_logits")}
    return {"logits": model(images)}


def check(path, expected, what):
    """Reads a mutated file; returns whether it was refused."""
    try:
        model = vit_keras.from_npz(path)
    except ValueError as refused:
        message = str(refused)
    else:
        message = None
    if message is not None:
        assert len(message) > 20, what
        return True
    for key, value in outputs(model, expected).items():
        scale = np.abs(expected[key]).max()
        np.testing.assert_allclose(value, expected[key], atol=1e-5 * scale, err_msg=what)
    return False


def drop(rng, arrays, key):
    return {k: a for k, a in arrays.items() if k != key} if key not in OPTIONAL else None


def rename(rng, arrays, key):
    def mistyped(name):
        where = rng.integers(len(name))
        return name[:where] + "x" + name[where + 1 :]

    if key in OPTIONAL:
        return None
    return {mistyped(k) if k == key else k: a for k, a in arrays.items()}


def transpose(rng, arrays, key):
    turned = arrays[key].T
    return {**arrays, key: turned} if turned.shape != arrays[key].shape else None


def cut_short(rng, arrays, key):
    array = arrays[key]
    axis = int(rng.integers(array.ndim))
    if array.shape[axis] < 2 or OPEN_ENDED.get(key) == axis:
        return None
    return {**arrays, key: np.take(array, range(array.shape[axis] - 1), axis)}


def swap_names(rng, arrays, key):
    other = list(arrays)[int(rng.integers(len(arrays)))]
    if arrays[other].shape == arrays[key].shape:
        return None
    return {**arrays, key: arrays[other], other: arrays[key]}


def duplicate(rng, arrays, key):
    return {**arrays, f"{key}_1": arrays[key]}


def make_infinite(rng, arrays, key):
    array = arrays[key].copy()
    array.flat[int(rng.integers(array.size))] = rng.choice([np.nan, np.inf, -np.inf])
    return {**arrays, key: array}


def add_axis(rng, arrays, key):
    return {**arrays, key: arrays[key][None]}


MUTATIONS = (drop, rename, transpose, cut_short, swap_names, duplicate, make_infinite, add_axis)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_mutated_arrays_are_refused(case, mutate, tmp_path):
    rng = np.random.default_rng(0)
    arrays = dict(np.load(GOLDENS / case / "checkpoint.npz"))
    expected = dict(np.load(GOLDENS / case / "expected.npz"))
    mutated = 0
    # A model is built before data is read, so values take longer than names and shapes.
    for key in rng.permutation(list(arrays))[: 8 if mutate is make_infinite else 60]:
        changed = mutate(rng, arrays, key)
        if changed is None:
            continue
        mutated += 1
        np.savez(tmp_path / "mutated.npz", **changed)
        assert check(tmp_path / "mutated.npz", expected, f"{mutate.__name__} {key}"), key
    assert mutated >= 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "compressed"), [("vit_token_legacy_prelogits", False), ("bv_map_scan", True)]
)
def test_flipped_bits(case, compressed, tmp_path):
    """Anywhere in the file: data, array headers, the archive's own records."""
    rng = np.random.default_rng(0)
    arrays = dict(np.load(GOLDENS / case / "checkpoint.npz"))
    expected = dict(np.load(GOLDENS / case / "expected.npz"))
    whole = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(whole, **arrays)
    content = whole.getvalue()
    directory = content.index(b"PK\x01\x02")
    places = [
        *rng.integers(len(content), size=20),
        *rng.integers(directory, len(content), size=20),
        *range(len(content) - 22, len(content)),
    ]
    refused = 0
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.npz").write_bytes(damaged)
        refused += check(tmp_path / "damaged.npz", expected, f"byte {place}")
    assert refused >= 20


@pytest.mark.parametrize("case", CASES)
def test_truncated_files(case, tmp_path):
    content = (GOLDENS / case / "checkpoint.npz").read_bytes()
    for length in np.linspace(0, len(content) - 1, 25).astype(int):
        (tmp_path / "cut.npz").write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.npz"):
            vit_keras.from_npz(tmp_path / "cut.npz")


@pytest.mark.parametrize("case", CASES)
def test_a_bomb_in_place_of_any_array(case, tmp_path):
    rng = np.random.default_rng(0)
    arrays = dict(np.load(GOLDENS / case / "checkpoint.npz"))
    for key in rng.permutation(list(arrays))[:3]:
        with zipfile.ZipFile(
            tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1
        ) as z:
            for name, array in arrays.items():
                with z.open(f"{name}.npy", "w", force_zip64=True) as stream:
                    if name != key:
                        np.lib.format.write_array(stream, array)
                        continue
                    shape = (70 << 18,)
                    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(stream, header)
                    for _ in range(70):
                        stream.write(bytes(1 << 20))
        assert (tmp_path / "bomb.npz").stat().st_size < 8 << 20
        with pytest.raises(ValueError, match="unpack"):
            vit_keras.from_npz(tmp_path / "bomb.npz")
