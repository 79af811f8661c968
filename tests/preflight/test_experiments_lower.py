"""The programs of every kind of experiment: FlexiViT, two towers, SAM, hybrids, Mixers."""

from pathlib import Path

import pytest

import tpu_configs
from vit_keras.commands.config_argument import read_config
from vit_keras.preflight.lowering import lower
from vit_keras.preflight.workload import get_workload, to_compile
from vit_keras.training import config_defaults

FOLDER = Path(tpu_configs.__file__).parent


def read(experiment):
    return config_defaults.complete(read_config(f"{FOLDER}/{experiment}", []))


@pytest.mark.slow
@pytest.mark.parametrize(
    "experiment",
    [
        "flexivit.py:runlocal",
        "mixer.py:runlocal",
        "sam_i1k.py:runlocal",
        "siglip.py:runlocal",
        "siglip_lit_coco.py:runlocal",
        "vit.py:r50_b16,cifar10,runlocal",
    ],
)
def test_programs(experiment):
    config = read(experiment)
    programs = lower(config, get_workload(config), replicas=2)
    assert b"all-reduce" in programs.train
    assert b"all-reduce" not in programs.evaluate
    assert b"conditional" not in programs.train
    assert programs.parameters > 1_000


def test_what_is_compiled_needs_no_file(tmp_path):
    config = read("flexivit.py:b")
    assert to_compile(config).pretrained_dir is None
    assert to_compile(config).flexi.patch_sizes == (8,)
    assert config.flexi.patch_sizes[0] == 48  # the config itself stays as it is
    config = read("siglip_lit_coco.py")
    assert to_compile(config).model.image_weights is None
    config.model.image_weights = str(tmp_path / "there.npz")
    (tmp_path / "there.npz").touch()
    assert to_compile(config).model.image_weights == config.model.image_weights


def test_a_teacher_that_nobody_knows():
    config = read("flexivit.py:runlocal")
    config.teacher, config.teacher_model = "gs://nowhere/teacher.npz", None
    with pytest.raises(ValueError, match=r"--config\.teacher_model=VARIANT"):
        lower(config, get_workload(config), replicas=1)
