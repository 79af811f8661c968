"""The whole of `tpu.py train`: two preemptions, and the weights of an undisturbed run."""

import pytest

pytest.importorskip("google.cloud.tpu_v2")
pytest.importorskip("sklearn")

from pods.rehearsal.fake_cloud import TOKEN
from pods.rehearsal.rehearse import rehearse


@pytest.mark.slow
def test_two_preemptions_change_no_bit(tmp_path):
    found = rehearse(tmp_path, say=lambda line: None)
    assert (found.slices, found.left) == (3, 0)
    assert len(found.taken_at) == 2
    assert max(found.taken_at) < 120
    assert found.arrays > 50
    assert found.equal
    assert found.output.count("Training will go on from its last checkpoint.") == 2
    assert "There is no more capacity" in found.output
    assert "No slice is left." in found.output
    assert TOKEN not in found.output
