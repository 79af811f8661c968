"""How far bfloat16 moves the logits: ours and big_vision's arithmetic, on the same weights.

  python tools/bench_bfloat16.py            (needs the extras preflight, for jax, and demo)

For every plain ViT among the golden checkpoints (random weights) and for the trained one of the
quick start, the root mean square of (bfloat16 logits - float32 logits), relative to that of the
float32 logits. big_vision's arithmetic is written here in JAX, with the dtypes that its modules
have when `dtype_mm` is bfloat16: products, biases, gelu, softmax and residuals in bfloat16,
statistics and results of its LayerNorms in float32, so the head too. Both are compiled by JAX's
XLA for the CPU. A ratio of at most 1 says that ours stays within big_vision's distance.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import keras
import numpy as np
import sklearn.datasets
import tensorflow as tf
from jax._src.interpreters import mlir
from jaxlib import _jax
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import mhlo
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import vit_keras
from vit_keras.checkpoints import named_weights
from vit_keras.preflight.tpu_compiler import drop_copies

ROOT = Path(__file__).resolve().parent.parent
GOLDENS = ROOT / "tests" / "goldens"
TRAINED = ROOT / "tpu_configs" / "checkpoints" / "digits_0_4.npz"


def big_vision_logits(weights: dict[str, np.ndarray], images: np.ndarray, dtype) -> jax.Array:
    """Logits of a plain ViT (token or gap), computed as big_vision does with `dtype_mm=dtype`.

    Args:
      weights: by their names in vision_transformer's naming.
      images: (batch, height, width, 3) in [-1, 1].
      dtype: of everything but LayerNorm and the head.
    """

    def dense(x, name, equation="...d,dm->...m"):
        kernel, bias = (
            jnp.asarray(weights[f"{name}/{kind}"], dtype) for kind in ("kernel", "bias")
        )
        return jnp.einsum(equation, x.astype(dtype), kernel) + bias

    def layer_norm(x, name):
        x = x.astype(jnp.float32)
        mean = x.mean(-1, keepdims=True)
        variance = jnp.maximum((x * x).mean(-1, keepdims=True) - mean * mean, 0.0)
        factor = jax.lax.rsqrt(variance + 1e-6) * weights[f"{name}/scale"]
        return (x - mean) * factor + weights[f"{name}/bias"]

    kernel = jnp.asarray(weights["embedding/kernel"], dtype)
    x = jax.lax.conv_general_dilated(
        images.astype(dtype),
        kernel,
        kernel.shape[:2],
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    x = (x + jnp.asarray(weights["embedding/bias"], dtype)).reshape(
        len(images), -1, kernel.shape[-1]
    )
    positions = jnp.asarray(weights["Transformer/posembed_input/pos_embedding"], dtype)
    tokens = [x]
    if "cls" in weights:
        cls = jnp.asarray(weights["cls"], dtype)
        tokens = [jnp.broadcast_to(cls, (len(images), 1, x.shape[-1])), x]
    if positions.shape[1] == x.shape[1]:  # positions before the class token
        tokens[-1] = tokens[-1] + positions
        x = jnp.concatenate(tokens, axis=1)
    else:
        x = jnp.concatenate(tokens, axis=1) + positions
    for index in range(len({n.split("/")[1] for n in weights if "/encoderblock_" in n})):
        block = f"Transformer/encoderblock_{index}"
        attention = f"{block}/MultiHeadDotProductAttention_0"
        y = layer_norm(x, f"{block}/LayerNorm_0")
        q, k, v = (
            dense(y, f"{attention}/{name}", "btd,dhk->bthk") for name in ("query", "key", "value")
        )
        scores = jnp.einsum("bthk,bshk->bhts", q / jnp.sqrt(q.shape[-1]).astype(dtype), k)
        y = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(scores).astype(dtype), v)
        x = x + dense(y, f"{attention}/out", "bthk,hkd->btd")
        y = layer_norm(x, f"{block}/LayerNorm_1")
        y = jax.nn.gelu(dense(y, f"{block}/MlpBlock_0/Dense_0"))
        x = x + dense(y, f"{block}/MlpBlock_0/Dense_1")
    x = layer_norm(x, "Transformer/encoder_norm")
    x = x[:, 0] if "cls" in weights else x.mean(1)
    return x @ weights["head/kernel"] + weights["head/bias"]


def our_logits(path: Path, images: np.ndarray, dtype: str) -> np.ndarray:
    """Logits of our model under a dtype policy, its program compiled by JAX's XLA.

    TensorFlow brings an older XLA, which rounds where JAX's doesn't.
    """
    model = vit_keras.from_npz(str(path), image_size=images.shape[1:3], dtype=dtype)
    spec = tf.TensorSpec(images.shape, tf.float32)
    constant = convert_variables_to_constants_v2(
        tf.function(lambda x: model(x, training=False)).get_concrete_function(spec)
    )
    lowered = tf.function(lambda x: constant(x), jit_compile=True)
    program = lowered.experimental_get_compiler_ir(spec)(stage="hlo_serialized")
    device = jax.devices()[0]
    with mlir.make_ir_context() as context:
        mhlo.register_mhlo_dialect(context)
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(program))
        drop_copies(module)
        executable = device.client.compile_and_load(
            module, _jax.DeviceList((device,)), _jax.CompileOptions()
        )
    results = executable.execute_sharded([jax.device_put(images, device)])
    return np.asarray(results.disassemble_into_single_device_arrays()[0][0])


def distance(rounded: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the difference, relative to that of `exact`."""
    return float(np.sqrt(np.mean((rounded - exact) ** 2) / np.mean(exact**2)))


def photo_patches(size: tuple[int, int], number: int) -> np.ndarray:
    """Cut-outs of scikit-learn's two photographs, (number, height, width, 3) in [-1, 1]."""
    random = np.random.default_rng(0)
    photos = sklearn.datasets.load_sample_images().images
    patches = []
    for index in range(number):
        photo = photos[index % len(photos)]
        top, left = (random.integers(photo.shape[i] - size[i]) for i in (0, 1))
        patches.append(photo[top : top + size[0], left : left + size[1]])
    return (np.stack(patches).astype(np.float32) - 127.5) / 127.5


def digits(side: int) -> np.ndarray:
    """scikit-learn's digits 0 to 4, as the trained checkpoint saw them."""
    data = sklearn.datasets.load_digits(n_class=5).images[..., None].repeat(3, -1)
    images = tf.image.resize(data * (255 / 16), (side, side), antialias=True).numpy()
    return (images.astype(np.float32) - 127.5) / 127.5


def main() -> None:
    """Prints a line for each checkpoint."""
    cases = {"digits_0_4 (trained)": (TRAINED, digits(16))}
    for folder in sorted(GOLDENS.glob("*/checkpoint.npz")):
        expected = np.load(folder.with_name("expected.npz"), allow_pickle=False)
        if "images_uint8" not in expected or expected["images_uint8"].ndim != 4:
            continue
        cases[folder.parent.name] = (
            folder,
            photo_patches(expected["images_uint8"].shape[1:3], 256),
        )
    print("| checkpoint | ours | big_vision | ratio |")
    print("| --- | --- | --- | --- |")
    for name, (path, images) in cases.items():
        keras.backend.clear_session()
        try:
            model = vit_keras.from_npz(str(path), image_size=images.shape[1:3])
            weights = {key: np.array(value) for key, value in named_weights(model).items()}
            if any(name.startswith(("MAPHead_0", "pre_logits")) for name in weights):
                continue
            exact = np.asarray(big_vision_logits(weights, images, jnp.float32))
        except (KeyError, ValueError):
            continue  # a hybrid, a mixer, attention pooling, two towers
        ours_exact = our_logits(path, images, "float32")
        if ours_exact.shape != exact.shape:
            continue  # logits of every token
        np.testing.assert_allclose(ours_exact, exact, rtol=0, atol=2e-5 * np.abs(exact).max())
        ours = distance(our_logits(path, images, "mixed_bfloat16"), ours_exact)
        compiled = jax.jit(lambda x, weights=weights: big_vision_logits(weights, x, jnp.bfloat16))
        theirs = distance(np.asarray(compiled(images)), exact)
        print(f"| {name} | {ours:.2e} | {theirs:.2e} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    main()
