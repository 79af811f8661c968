import pytest

from vit_keras.preflight.lowering import batch_specs, check_batches, eval_specs
from vit_keras.preflight.workload import get_workload
from vit_keras.training import config_defaults


def _config(**changes):
    config = config_defaults.get_config()
    config.dataset = "cifar10"
    with config.ignore_type():
        config.update(changes)
    return config


def test_steps_of_a_known_data_set():
    config = _config(total_epochs=3, batch=500, eval_every=100, warmup_steps=7)
    config.pp.train, config.pp.test = "train[:98%]", "test[1000:]+train[-10%:]"
    workload = get_workload(config)
    assert workload.classes == 10
    assert workload.total_steps == 3 * 49_000 // 500
    assert workload.warmup_steps == 7
    assert workload.evaluations == 3  # after 100, 200 and all 294
    assert workload.eval_examples == 9_000 + 5_000


def test_what_is_not_known_is_asked_for():
    config = _config(dataset="somebodys_flowers", total_epochs=3)
    with pytest.raises(ValueError, match="--classes"):
        get_workload(config)
    with pytest.raises(ValueError, match="--num_examples"):
        get_workload(config, classes=7)
    workload = get_workload(config, classes=7, num_examples=5120)
    assert (workload.classes, workload.total_steps) == (7, 30)
    assert workload.eval_examples is None


@pytest.mark.parametrize("key", ["batch", "batch_eval"])
def test_batches_must_divide(key):
    with pytest.raises(ValueError, match=f"config.{key} is 1000") as error:
        check_batches(_config(**{"accum_steps": 2, key: 1000}), 128)
    near = [int(word.strip(".")) for word in str(error.value).split()[-3:] if word[0].isdigit()]
    assert len(near) == 2
    for size in near:
        check_batches(_config(**{"accum_steps": 2, key: size}), 128)


def test_batches_have_the_pipelines_types():
    config = _config()
    with config.pp.ignore_type():
        config.pp.crop = (32, 48)
    assert batch_specs(config, 10, 4)["image"].dtype == "uint8"
    assert batch_specs(config, 10, 4)["image"].shape == (4, 32, 48, 3)
    assert batch_specs(config, 10, 4)["label"].shape == (4,)
    config.pp.train_ops = "decode|value_range(-1, 1)|onehot(10)"
    assert batch_specs(config, 10, 4)["image"].dtype == "float32"
    assert batch_specs(config, 10, 4)["label"].shape == (4, 10)
    assert eval_specs(config, 10, 4)["mask"].shape == (4,)
