"""Files that don't fit are refused, every offending key named, and nothing is half loaded."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vit_keras
from vit_keras.checkpoints import named_weights

GOLDENS = Path(__file__).parents[1] / "goldens"
# Of each family: a case, a key of it, and the options that its reading needs.
FAMILIES = {
    "vit": ("vit_token_legacy", "Transformer/encoderblock_1/MlpBlock_3/Dense_0/kernel"),
    "big_vision": ("bv_map_learn", "MAPHead_0/MlpBlock_0/Dense_1/kernel"),
    "scan": ("bv_map_scan", "Transformer/encoderblock/MlpBlock_0/Dense_0/kernel"),
    "hybrid": ("hybrid_stages_legacy_gn4d", "block2/unit1/conv2/kernel"),
    "mixer": ("mixer", "MixerBlock_1/token_mixing/Dense_0/kernel"),
    "two_towers": (
        "siglip_two_towers_map_last",
        "params/txt/Encoder_0/encoderblock_0/MlpBlock_0/Dense_0/kernel",
    ),
}
families = pytest.mark.parametrize(("case", "key"), FAMILIES.values(), ids=FAMILIES)


def arrays_of(case):
    return dict(np.load(GOLDENS / case / "checkpoint.npz"))


def refusal(path, **options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is looked at)
        vit_keras.from_npz(path, **options)
    return str(caught.value)


@families
def test_missing_extra_and_misshapen_keys_are_all_listed(case, key, tmp_path):
    arrays = arrays_of(case)
    dropped = [name for name in arrays if name.endswith("/kernel") and name != key][3]
    found = arrays[dropped].shape
    del arrays[dropped]
    prefix = "params/" if key.startswith("params/") else ""
    arrays[f"{prefix}surplus/kernel"] = np.zeros((2, 3), np.float32)
    expected = arrays[key].shape
    arrays[key] = arrays[key][..., :-1]
    np.savez(tmp_path / "bad.npz", **arrays)
    message = refusal(tmp_path / "bad.npz")
    assert "3 arrays differ" in message
    assert f"missing    {dropped} {found}" in message
    assert f"extra      {prefix}surplus/kernel (2, 3)" in message
    assert f"misshapen  {key}: found {arrays[key].shape}, expected {expected}" in message


@families
def test_not_finite(case, key, tmp_path):
    arrays = arrays_of(case)
    for value in (np.nan, np.inf):
        arrays[key].flat[7] = value
        np.savez(tmp_path / "bad.npz", **arrays)
        message = refusal(tmp_path / "bad.npz")
        assert key in message
        assert "NaN" in message


@families
def test_integers_aren_t_weights(case, key, tmp_path):
    arrays = arrays_of(case)
    arrays[key] = np.zeros(arrays[key].shape, np.int32)
    np.savez(tmp_path / "bad.npz", **arrays)
    assert f"mistyped   {key}: found int32" in refusal(tmp_path / "bad.npz")


def test_not_an_archive_truncated_and_absent(tmp_path):
    whole = (GOLDENS / "vit_token_legacy" / "checkpoint.npz").read_bytes()
    for content in (b"", b"no archive at all", whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / "bad.npz").write_bytes(content)
        assert "truncated" in refusal(tmp_path / "bad.npz")
    with pytest.raises(FileNotFoundError, match=r"absent\.npz"):
        vit_keras.from_npz(tmp_path / "absent.npz")


def test_pickles_are_refused_unopened(tmp_path):
    class Alarm:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    arrays = arrays_of("vit_token_legacy")
    arrays["cls"] = np.array([[[Alarm()]]], dtype=object)
    np.savez(tmp_path / "bad.npz", **arrays)
    message = refusal(tmp_path / "bad.npz")
    assert "'cls'" in message
    assert "pickled" in message
    with zipfile.ZipFile(tmp_path / "bad.npz", "a") as archive:
        archive.writestr("extra.npy", pickle.dumps(Alarm()))
    refusal(tmp_path / "bad.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "array", ["embedding/kernel", "Transformer/encoderblock_1/LayerNorm_0/bias"]
)
def test_altered_data_fails_the_checksum(array, tmp_path):
    content = bytearray((GOLDENS / "vit_token_linen" / "checkpoint.npz").read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entry = archive.getinfo(f"{array}.npy")
    content[entry.header_offset + 30 + len(entry.filename) + 20 + 128 + 9] ^= 4
    (tmp_path / "bad.npz").write_bytes(content)
    assert array in refusal(tmp_path / "bad.npz")


def zeros_archive(path, arrays):
    """An archive of arrays of zeros that are never in memory at once."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, (shape, size) in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
                for _ in range(size >> 20):
                    stream.write(bytes(1 << 20))


def test_zip_bombs(tmp_path):
    zeros_archive(tmp_path / "bomb.npz", {"embedding/bias": ((100 << 18,), 100 << 20)})
    assert (tmp_path / "bomb.npz").stat().st_size < 1 << 20
    assert "unpack" in refusal(tmp_path / "bomb.npz")


def test_small_arrays_that_claim_a_huge_model(tmp_path):
    """Refused by arithmetic, before a model of terabytes is built."""
    arrays = arrays_of("vit_token_linen")
    for name in list(arrays):
        if name.endswith("MlpBlock_0/Dense_0/bias"):
            arrays[name] = np.zeros(3_000_000, np.float32)
    np.savez_compressed(tmp_path / "bad.npz", **arrays)
    assert "misshapen" in refusal(tmp_path / "bad.npz")
    far = arrays_of("vit_token_linen")
    far["Transformer/encoderblock_99999999/LayerNorm_0/bias"] = np.zeros(32, np.float32)
    np.savez(tmp_path / "bad.npz", **far)
    assert "encoderblock_2" in refusal(tmp_path / "bad.npz")


def test_two_names_of_one_parameter(tmp_path):
    arrays = arrays_of("bv_gap_learn")
    arrays["Transformer/pos_embedding"] = arrays["pos_embedding"]
    np.savez(tmp_path / "bad.npz", **arrays)
    message = refusal(tmp_path / "bad.npz")
    assert "'pos_embedding'" in message
    assert "'Transformer/pos_embedding'" in message


def test_keys_outside_of_the_prefix_aren_t_dropped(tmp_path):
    arrays = arrays_of("vit_token_params_prefix")
    arrays["head/kernel"] = arrays["params/head/kernel"]
    np.savez(tmp_path / "bad.npz", **arrays)
    assert "extra      head/kernel" in refusal(tmp_path / "bad.npz")


def test_what_isn_t_in_the_arrays_is_asked_for():
    sincos = GOLDENS / "bv_gap_sincos2d_rep" / "checkpoint.npz"
    assert "pass image_size" in refusal(sincos)
    assert "token_unpooled" in refusal(
        GOLDENS / "vit_token_linen" / "checkpoint.npz", classifier="gap"
    )
    mixer = GOLDENS / "mixer" / "checkpoint.npz"
    assert "16" in refusal(mixer, image_size=64)
    assert "classifier" in refusal(mixer, classifier="token")
    assert "pooling" in refusal(mixer, pooling="last")
    towers = GOLDENS / "lit_two_towers_tok_last" / "checkpoint.npz"
    assert "zero_shot" in refusal(towers, classes=3)
    assert "pooling" in refusal(towers, pooling="middle")
    assert "patch_size" in refusal(mixer, patch_size=4)


def test_the_model_is_as_it_was_after_a_refusal(tmp_path):
    path = GOLDENS / "vit_token_linen" / "checkpoint.npz"
    model = vit_keras.from_npz(path)
    before = {name: weight.numpy() for name, weight in named_weights(model).items()}
    arrays = {key: array + 1 for key, array in arrays_of("vit_token_linen").items()}
    last = list(arrays)[-1]
    for damage in (lambda a: a * np.nan, lambda a: a[:1]):
        np.savez(tmp_path / "bad.npz", **{**arrays, last: damage(arrays[last])})
        with pytest.raises(ValueError, match=last):
            vit_keras.load_npz(model, tmp_path / "bad.npz")
        for name, weight in named_weights(model).items():
            np.testing.assert_array_equal(weight.numpy(), before[name])


def test_a_file_is_only_replaced_by_a_whole_one(tmp_path, monkeypatch):
    model = vit_keras.from_npz(GOLDENS / "vit_token_linen" / "checkpoint.npz")
    (tmp_path / "model.npz").write_bytes(b"precious")
    with pytest.raises(ValueError, match="linen"):
        vit_keras.save_npz(model, tmp_path / "model.npz", naming="linnen")
    write_array, written = np.lib.format.write_array, []

    def full_disk(stream, array, **options):
        if len(written) == 20:
            raise OSError(28, "No space left on device")
        written.append(write_array(stream, array, **options))

    monkeypatch.setattr(np.lib.format, "write_array", full_disk)
    with pytest.raises(OSError, match="No space"):
        vit_keras.save_npz(model, tmp_path / "model.npz")
    assert (tmp_path / "model.npz").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["model.npz"]
