import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import vit_keras
from vit_keras.export import export_saved_model, write_artifacts

# A process where vit_keras can't be imported.
SERVE = """
import sys
sys.modules["vit_keras"] = None
import numpy as np, tensorflow as tf
directory, inputs = sys.argv[1:]
given = np.load(inputs)
signatures = tf.saved_model.load(directory).signatures
serve = signatures["serving_default"]
assert list(serve.structured_input_signature[1]) == ["image"], serve.structured_input_signature
for count in (1, 3):
    logits = serve(image=tf.constant(given["images"][:count]))["logits"].numpy()
    np.testing.assert_allclose(logits, given["logits"][:count], rtol=1e-5, atol=1e-5)
pixels = signatures["serving_uint8"](image=tf.constant(given["pixels"]))["logits"].numpy()
np.testing.assert_allclose(pixels, given["logits"], rtol=1e-5, atol=1e-5)
if tf.__version__.startswith("2.15."):
    model = tf.keras.models.load_model(directory)
    logits = model.predict(given["images"], verbose=0)
    np.testing.assert_allclose(logits, given["logits"], rtol=1e-5, atol=1e-5)
print("served")
"""


@pytest.fixture
def exported(goldens, tmp_path):
    model = vit_keras.from_npz(goldens / "vit_token_legacy" / "checkpoint.npz")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    images = (pixels.astype(np.float32) - 127.5) / 127.5
    export_saved_model(model, tmp_path / "saved")
    np.savez(
        tmp_path / "given.npz",
        images=images,
        pixels=pixels,
        logits=model.predict(images, verbose=0),
    )
    return model, tmp_path


@pytest.mark.slow
def test_serves_where_vit_keras_is_not_installed(exported):
    _, directory = exported
    command = [sys.executable, "-c", SERVE, directory / "saved", directory / "given.npz"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, check=False)
    assert done.stdout.strip().endswith("served"), done.stderr


@pytest.mark.slow
def test_saved_model_cli_runs_it(exported):
    _, directory = exported
    code = "from tensorflow.python.tools.saved_model_cli import main; main()"
    arguments = ["run", "--dir", directory / "saved", "--tag_set", "serve"]
    arguments += ["--signature_def", "serving_default"]
    arguments += ["--inputs", f"image={directory / 'given.npz'}[images]", "--outdir", directory]
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=directory, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(directory / "given.npz") as given:
        np.testing.assert_allclose(
            np.load(directory / "logits.npy"), given["logits"], rtol=1e-5, atol=1e-5
        )


def test_output_is_named_for_what_it_is(goldens, tmp_path):
    path = goldens / "vit_gap" / "checkpoint.npz"
    for arguments, name in (
        ({"activation": "softmax"}, "probabilities"),
        ({"classes": 0}, "features"),
        ({"dtype": "mixed_bfloat16"}, "logits"),
    ):
        export_saved_model(vit_keras.from_npz(path, **arguments), tmp_path / name)
        loaded = tf.saved_model.load(str(tmp_path / name))
        assert list(loaded.signatures["serving_default"].structured_outputs) == [name]


def test_what_exists_is_kept_unless_asked(exported):
    model, directory = exported
    before = (directory / "saved" / "saved_model.pb").read_bytes()
    with pytest.raises(ValueError, match="exists; pass overwrite=True"):
        export_saved_model(model, directory / "saved")
    assert (directory / "saved" / "saved_model.pb").read_bytes() == before
    export_saved_model(model, directory / "saved", overwrite=True)
    assert sorted(path.name for path in directory.iterdir()) == ["given.npz", "saved"]


def test_artifacts_are_completed_but_never_replaced(exported):
    model, directory = exported
    names = ["a", "b", "c", "d", "e"]
    paths = write_artifacts(model, str(directory), names)
    assert set(paths) == {"model.keras", "saved_model", "model.npz", "class_names.txt"}
    assert (directory / "class_names.txt").read_text().split() == names
    (directory / "model.npz").unlink()
    (directory / "class_names.txt").write_text("kept")
    write_artifacts(model, str(directory), names)
    assert (directory / "model.npz").exists()
    assert (directory / "class_names.txt").read_text() == "kept"
