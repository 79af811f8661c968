"""What is said of a checkpoint."""

from pathlib import Path

import numpy as np
import pytest

import vit_keras
from vit_keras.checkpoints import describe

GOLDENS = Path(__file__).parents[1] / "goldens"


@pytest.mark.parametrize(
    ("case", "family", "naming", "prefix", "classes"),
    [
        ("vit_token_legacy", "vit", "legacy", "", 5),
        ("vit_token_opt_target_prefix", "vit", "linen", "opt/target/", 5),
        ("bv_map_params_img_prefix", "vit", "big_vision", "params/img/", 5),
        ("hybrid_stages_legacy_gn4d", "hybrid", "legacy", "", 5),
        ("mixer", "mixer", "linen", "", 5),
        ("lit_two_towers_tok_last", "two_towers", "big_vision", "params/", 16),
    ],
)
def test_facts(case, family, naming, prefix, classes):
    path = GOLDENS / case / "checkpoint.npz"
    found = describe(path)
    assert (found.family, found.naming, found.prefix) == (family, naming, prefix)
    assert found.classes == classes
    assert not found.head_is_zero
    arrays = np.load(path)
    assert found.arrays == len(arrays.files)
    assert found.parameters == sum(arrays[key].size for key in arrays.files)
    assert found.parameters == vit_keras.models.build(found.config).count_params()
    text = str(found)
    for fact in (str(path), family, naming, f"{found.parameters:,}", str(classes)):
        assert fact in text


def test_scanned_blocks_are_mentioned():
    found = describe(GOLDENS / "bv_map_scan" / "checkpoint.npz")
    assert found.scan == ("Transformer",)
    assert "stacked" in str(found)


def test_a_head_of_zeros_is_announced(tmp_path):
    arrays = dict(np.load(GOLDENS / "vit_token_legacy" / "checkpoint.npz"))
    arrays.update({key: 0 * arrays[key] for key in arrays if key.startswith("head/")})
    np.savez(tmp_path / "zeros.npz", **arrays)
    found = describe(tmp_path / "zeros.npz")
    assert found.head_is_zero
    assert "all zeros" in str(found)
    assert vit_keras.checkpoints.head_is_zero(vit_keras.from_npz(tmp_path / "zeros.npz"))


def test_what_from_npz_would_refuse_is_refused(tmp_path):
    arrays = dict(np.load(GOLDENS / "mixer" / "checkpoint.npz"))
    del arrays["stem/bias"]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match="stem/bias"):
        describe(tmp_path / "bad.npz")
