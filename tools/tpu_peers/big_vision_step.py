"""Compiles a training step of big_vision's ViT for a TPU: `python big_vision_step.py JOB.json`.

big_vision isn't on PyPI, flax is. The modules are big_vision's published architecture
(github.com/google-research/big_vision, models/vit.py with dtype_mm="bfloat16", Apache 2.0) in flax,
for comparison: class token, learned positions, no dropout. The step is sharded over the batch by
`jax.jit`, as its train.py does.

Runs in an environment with jax, libtpu, flax and optax, without TensorFlow. JOB.json: `width`,
`depth`, `mlp_dim`, `num_heads`, `batch` (a replica's), `replicas`, `topology`, `topology_options`,
`options` (of XLA), `hlo` and `result` (where the optimised program and the memory go).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

# As in preflight's tpu_compiler.py: no device is looked for, none is used.
os.environ.update(TPU_SKIP_MDS_QUERY="1", JAX_PLATFORMS="cpu", ALLOW_MULTIPLE_LIBTPU_LOAD="1")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

IMAGE_SIZE, PATCH_SIZE, CLASSES = 224, 16, 1000
DTYPE = "bfloat16"  # of products and of what they give; LayerNorm stays in float32
_XAVIER = nn.initializers.xavier_uniform()


class MlpBlock(nn.Module):
    """Dense, tanh gelu, Dense."""

    mlp_dim: int

    @nn.compact
    def __call__(self, x):
        """The same shape comes back."""
        options = {"kernel_init": _XAVIER, "bias_init": nn.initializers.normal(stddev=1e-6)}
        width = x.shape[-1]
        x = nn.gelu(nn.Dense(self.mlp_dim, dtype=DTYPE, **options)(x))
        return nn.Dense(width, dtype=DTYPE, **options)(x)


class EncoderBlock(nn.Module):
    """A pre-norm block."""

    mlp_dim: int
    num_heads: int

    @nn.compact
    def __call__(self, x):
        """The same shape comes back."""
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(
            num_heads=self.num_heads, kernel_init=_XAVIER, deterministic=True, dtype=DTYPE
        )(y, y)
        return x + MlpBlock(self.mlp_dim)(nn.LayerNorm()(x))


class ViT(nn.Module):
    """Images to logits."""

    width: int
    depth: int
    mlp_dim: int
    num_heads: int

    @nn.compact
    def __call__(self, image):
        """(batch, height, width, 3) to (batch, classes)."""
        patch = (PATCH_SIZE, PATCH_SIZE)
        x = nn.Conv(self.width, patch, patch, padding="VALID", dtype=DTYPE)(image.astype(DTYPE))
        n, h, w, c = x.shape
        x = x.reshape(n, h * w, c)
        normal = nn.initializers.normal(stddev=c**-0.5)
        x = x + self.param("pos_embedding", normal, (1, h * w, c), x.dtype)
        token = self.param("cls", nn.initializers.zeros, (1, 1, c), x.dtype)
        x = jnp.concatenate([jnp.tile(token, [n, 1, 1]), x], axis=1)
        for number in range(self.depth):
            x = EncoderBlock(self.mlp_dim, self.num_heads, name=f"encoderblock_{number}")(x)
        x = nn.LayerNorm(name="encoder_norm")(x)[:, 0]
        return nn.Dense(CLASSES, kernel_init=nn.initializers.zeros, name="head")(x)


def compile_step(job: dict):
    """The compiled step of `job`'s model on `job`'s slice."""
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=job["topology"], **job["topology_options"]
    )
    mesh = Mesh(np.array(topology.devices[: job["replicas"]]), ("data",))
    replicated = NamedSharding(mesh, PartitionSpec())
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    model = ViT(job["width"], job["depth"], job["mlp_dim"], job["num_heads"])
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.trace(0.9, accumulator_dtype="bfloat16"),
        optax.scale(-0.03),
    )

    def step(params, state, images, labels):
        def loss_of(params):
            logits = model.apply({"params": params}, images)
            return jnp.mean(-jnp.sum(labels * jax.nn.log_softmax(logits), axis=-1))

        loss, gradients = jax.value_and_grad(loss_of)(params)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    size = job["batch"] * job["replicas"]
    images = jax.ShapeDtypeStruct((size, IMAGE_SIZE, IMAGE_SIZE, 3), jnp.float32)
    labels = jax.ShapeDtypeStruct((size, CLASSES), jnp.float32)
    key = jax.random.PRNGKey(0)
    params = jax.eval_shape(lambda: model.init(key, jnp.zeros(images.shape[1:])[None]))["params"]
    state = jax.eval_shape(optimizer.init, params)
    jitted = jax.jit(
        step,
        in_shardings=(replicated, replicated, sharded, sharded),
        out_shardings=replicated,
        donate_argnums=(0, 1),
    )
    return jitted.lower(params, state, images, labels).compile(compiler_options=job["options"])


def main(path: str) -> None:
    """Does the job described in the file `path`."""
    job = json.loads(Path(path).read_text(encoding="utf-8"))
    compiled = compile_step(job)
    Path(job["hlo"]).write_text(compiled.as_text(), encoding="utf-8")
    memory = compiled.memory_analysis()
    result = {"temporaries": memory.temp_size_in_bytes}
    Path(job["result"]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
