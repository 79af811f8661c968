import json
import sys

import pytest

from vit_keras import preflight
from vit_keras.main import main
from vit_keras.preflight.compiling import compiler_versions
from vit_keras.training import config_defaults

try:
    compiler_versions()
except preflight.CompilerError as error:
    pytest.skip(f"jax and libtpu aren't installed: {error}", allow_module_level=True)

pytestmark = pytest.mark.slow

CONFIG = """
from vit_keras.training import config_defaults

def get_config():
    config = config_defaults.get_config()
    config.pretrained_dir = None
    config.model.model_name = "mu/16"
    config.dataset = "cifar10"
    config.pp.crop = 64
    config.total_steps, config.warmup_steps, config.eval_every = 500, 10, 0
    config.batch = config.batch_eval = 64
    config.accum_steps = 1
    return config
"""


def _config(**changes):
    namespace = {}
    exec(CONFIG, namespace)
    config = namespace["get_config"]()
    with config.ignore_type():
        config.update(changes)
    return config


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return preflight.Cache(str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def report(cache):
    return preflight.preflight(_config(), "v5e-8", cache=cache)


def test_figures_hang_together(report):
    import vit_keras

    model = vit_keras.create_model("mu/16", image_size=64, classes=10)
    # The gradients in float32, the loss, and each gradient's sum of squares.
    numbers = model.count_params() + 1 + len(model.trainable_weights)
    assert report.step["all_reduce_bytes"] == 4 * numbers
    # Weights in float32, momentum in bfloat16, and a batch of uint8.
    assert report.memory["arguments"] >= 6 * model.count_params() + 8 * 64 * 64 * 3
    assert report.fits
    assert report.memory["available"] == report.memory["spare"] + report.memory["peak"]
    step = report.step
    assert step["seconds"] == step["compute_seconds"] + step["all_reduce_seconds"]
    assert step["images_per_s"] == pytest.approx(64 / step["seconds"])
    assert step["images_per_s_per_chip"] * 8 == pytest.approx(step["images_per_s"])
    assert 0 < step["matrix_unit_share"] < 1
    assert 0 < step["weak_scaling_efficiency"] < 1
    assert report.run["hours"] > 500 * step["seconds"] / 3600
    assert sum(cycles for _, cycles, _ in report.operations) <= step["cycles"]
    assert any("encoderblock_0" in name for name, _, _ in report.operations)


def test_flops_of_a_step(report, cache):
    tokens, images, heads = 17, 8, 2
    kernels = 4 * 32 * 32 + 2 * 32 * 128
    attention = 2 * tokens * 32
    block = 2 * tokens * (kernels + attention)
    patches, head = 2 * 16 * 16 * 16 * 3 * 32, 2 * 32 * 10
    # Backward is twice forward, but no gradient of the images is needed; and the gradient of the
    # softmax has a product of its own.
    softmax = 2 * tokens * 32
    whole = preflight.preflight(_config(prune_last_block=False), "v5e-8", cache=cache)
    assert whole.step["flops"] == images * (3 * block + softmax + 2 * patches + 3 * head)
    # All kernels for one token; scores and mean for each head at full width; the keys' bias.
    pruned = 2 * kernels + 2 * heads * 2 * tokens * 32 + 2 * 32
    assert report.step["flops"] == images * (3 * (pruned + head) + 2 * patches)


def test_cached_by_what_determines_it(report, cache):
    stages = []
    again = preflight.preflight(
        _config(shuffle_buffer=7), "v5e:2x4", cache=cache, progress=stages.append
    )
    assert again == report
    assert stages == []


def test_compiler_options_from_the_environment(report, cache, monkeypatch):
    option = "--xla_tpu_enable_dot_strength_reduction=false"
    monkeypatch.setenv("LIBTPU_INIT_ARGS", option)
    other = preflight.preflight(_config(), "v5e-8", cache=cache)
    assert other.versions == {**report.versions, "LIBTPU_INIT_ARGS": option}
    assert other.step["cycles"] != report.step["cycles"]


def test_micro_batches_change_no_flops(report, cache):
    split = preflight.preflight(_config(accum_steps=4), "v5e-8", cache=cache)
    assert split.step["flops"] == report.step["flops"]
    assert split.step["cycles"] > report.step["cycles"]
    assert split.accum_steps == 4


def test_everything_on_device_compiles(cache):
    config = _config(
        mixup=0.2, cutmix=1.0, ema_decay=0.99, optimizer="adam", dtype="mixed_bfloat16"
    )
    config.model.update({"dropout": 0.1, "stochastic_depth": 0.1, "remat": True})
    found = preflight.preflight(config, "v3-8", cache=cache)
    assert found.fits
    assert found.replicas == 8
    assert found.chips == 4


def test_says_what_does_not_fit(cache):
    # Half a million images of 64 px a chip are 6 GiB as bytes, and 24 as floats.
    config = _config(batch=8 * 2**19, dtype="mixed_bfloat16")
    found = preflight.preflight(config, "v5e-8", cache=cache)
    assert not found.fits
    assert found.step is None
    assert found.memory["missing"] == found.memory["needed"] - found.memory["available"]
    assert found.memory["missing"] > 0
    assert "DOES NOT FIT" in preflight.format_report(found)


def test_suggestions_fit_and_the_fastest_is_first(report, cache):
    tried = []
    # A batch that the slice can't share evenly is brought to one that it can.
    config = _config(batch=67, accum_steps=4)
    suggestions = preflight.suggest(config, "v5e-8", cache=cache, progress=tried.append)
    assert len(tried) == len(suggestions)
    assert {s.changes.get("model.remat", False) for s in suggestions} == {False, True}
    assert {s.report.accum_steps for s in suggestions} >= {1, 2}
    speeds = [suggestion.report.step["images_per_s"] for suggestion in suggestions]
    assert speeds == sorted(speeds, reverse=True)
    for suggestion in suggestions:
        assert suggestion.report.fits
        assert suggestion.report.memory["spare"] > 0
        assert suggestion.changes["batch"] == suggestion.report.global_batch == 64
        assert suggestion.changes.get("accum_steps", 4) == suggestion.report.accum_steps


def test_suggestions_for_what_does_not_fit_as_it_is(cache):
    config = _config(batch=8 * 2**18, dtype="mixed_bfloat16")
    assert not preflight.preflight(config, "v2-8", cache=cache).fits
    tried = []
    suggestions = preflight.suggest(config, "v2-8", cache=cache, progress=tried.append)
    assert len(tried) > len(suggestions)
    for suggestion in suggestions:
        assert suggestion.report.fits
        assert suggestion.report.memory["peak"] <= suggestion.report.memory["available"]
    # The images themselves are too many.
    assert suggestions[0].changes["batch"] == 8 * 2**17


def test_command(tmp_path, capsys, report, cache):
    file = tmp_path / "tiny.py"
    file.write_text(CONFIG)
    arguments = ["preflight", f"--config={file}", f"--cache_dir={cache.directory}"]
    assert main([*arguments, "--slice=v5e-8", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == report.step
    assert main([*arguments, "--slice=v5e-8"]) == 0
    out = capsys.readouterr().out
    assert preflight.CAVEAT in out
    assert "FITS" in out
    assert main([*arguments, "--slice=v5e-9"]) == 2
    assert "v5litepod-8" in capsys.readouterr().err
    assert main([*arguments, "--slice=v5e-256"]) == 2
    assert "such as 256" in capsys.readouterr().err
    assert main([*arguments, "--slice=v5e-8", "--config.model.dropuot=1"]) == 2
    assert main([*arguments, "--slice=v5e-8", "--no_cache", "--compiler_python=/bin/false"]) == 2
    assert "pip install" in capsys.readouterr().err


def test_the_compiler_knows_every_slice():
    import subprocess

    code = (
        "import json, sys\n"
        "from jax.experimental import topologies\n"
        "print(json.dumps([len(topologies.get_topology_desc("
        "platform='tpu', topology_name=name, **options).devices)"
        " for name, options in json.load(sys.stdin)]))"
    )
    slices = list(preflight.SLICES.values())
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([(found.topology, found.topology_options) for found in slices]),
        env={"TPU_SKIP_MDS_QUERY": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == [found.replicas for found in slices]


def test_config_defaults_are_checked(cache):
    config = config_defaults.get_config()
    with pytest.raises(ValueError, match="total_steps"):
        preflight.preflight(config, "v5e-8", classes=10, cache=cache)
