"""One contender of `bench_cpu.py`: `python cpu_contenders.py NAME TASK VARIANT DTYPE BATCH JIT`.

Builds its ViT at 224 px with 1000 classes, makes two calls that compile, prints a JSON line with
its version and number of parameters, and from then on makes one call for each line on its standard
input and answers with [seconds, CPU seconds]. Of this project it imports nothing but what it
measures, because it may run in another environment.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

IMAGE_SIZE, CLASSES, RATE = 224, 1000, 1e-3
# Variant -> width, heads, MLP width; all of twelve blocks and patches of 16.
SIZES = {"Ti/16": (192, 3, 768), "S/16": (384, 6, 1536), "B/16": (768, 12, 3072)}

Arrays = tuple[np.ndarray, np.ndarray]
# The function that is timed, the package's version and the number of parameters.
Contender = tuple[Callable[[], object], str, int]


def vit_keras(task: str, variant: str, dtype: str, arrays: Arrays, jit: bool) -> Contender:
    """Ours, as its users call any Keras model."""
    import vit_keras

    model = vit_keras.create_model(variant, image_size=IMAGE_SIZE, classes=CLASSES, dtype=dtype)
    return _keras_call(model, task, arrays, jit), vit_keras.__version__, model.count_params()


def vit_keras_engine(task: str, variant: str, dtype: str, arrays: Arrays, jit: bool) -> Contender:
    """Ours, trained by the step of `vit_keras.training`, pruned as `vit-keras train` does it."""
    import tensorflow as tf

    import vit_keras
    from vit_keras.training import Schedule, TrainStep, losses, tasks
    from vit_keras.training.optimizers import SGD
    from vit_keras.training.parameter_settings import make_settings
    from vit_keras.training.pruning import prune_last_block

    if task != "train":
        raise ValueError(f"TASK is {task!r}; expected 'train' of vit_keras_engine.")
    images, labels = arrays
    model = vit_keras.create_model(variant, image_size=IMAGE_SIZE, classes=CLASSES, dtype=dtype)
    prune_last_block(model)
    named = vit_keras.checkpoints.named_weights(model)
    step = TrainStep(
        model,
        named,
        tasks.classification(losses.softmax_cross_entropy),
        SGD(accumulator_dtype="float32"),
        Schedule(RATE, 10**6, "constant"),
        make_settings(named),
        global_batch=len(images),
        grad_norm_clip=1.0,
    )

    @tf.function(jit_compile=jit or None)
    def compiled(images, labels):
        step({"image": images, "label": labels})

    def call():
        compiled(tf.constant(images), tf.constant(labels))
        return step.step.numpy()

    return call, vit_keras.__version__, model.count_params()


def keras_hub(task: str, variant: str, dtype: str, arrays: Arrays, jit: bool) -> Contender:
    """keras-hub's classifier on TensorFlow, from its class token."""
    import keras_hub

    width, heads, mlp_dim = SIZES[variant]
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(IMAGE_SIZE, IMAGE_SIZE, 3),
        patch_size=16,
        num_layers=12,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=mlp_dim,
        dtype=dtype,
    )
    model = keras_hub.models.ViTImageClassifier(backbone, CLASSES, preprocessor=None)
    return _keras_call(model, task, arrays, jit), keras_hub.__version__, model.count_params()


def transformers(task: str, variant: str, dtype: str, arrays: Arrays, jit: bool) -> Contender:
    """The PyTorch ViT of transformers: bfloat16 weights where TensorFlow's have mixed precision."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    if task != "inference" or jit:
        raise ValueError("TASK of transformers is 'inference', not compiled.")
    width, heads, mlp_dim = SIZES[variant]
    config = ViTConfig(
        hidden_size=width, num_attention_heads=heads, intermediate_size=mlp_dim, num_labels=CLASSES
    )
    kind = torch.float32 if dtype == "float32" else torch.bfloat16
    model = ViTForImageClassification(config).to(kind).eval()
    images = np.ascontiguousarray(arrays[0].transpose(0, 3, 1, 2))

    def call():
        with torch.inference_mode():
            return model(torch.from_numpy(images).to(kind)).logits.float().numpy()

    count = sum(weight.numel() for weight in model.parameters())
    return call, metadata.version("transformers"), count


def _keras_call(model, task: str, arrays: Arrays, jit: bool) -> Callable[[], object]:
    import keras

    # Left alone, Keras 3 compiles nothing by XLA on a machine that has only CPUs.
    model.compile(
        keras.optimizers.SGD(RATE, momentum=0.9, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit,
    )
    if task == "train":
        return lambda: model.train_on_batch(*arrays)
    return lambda: model.predict_on_batch(arrays[0])


CONTENDERS = {f.__name__: f for f in (vit_keras, vit_keras_engine, keras_hub, transformers)}


def main(name: str, task: str, variant: str, dtype: str, batch: int, jit: bool) -> None:
    """Answers every line with what one call took."""
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (batch, IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    labels = rng.integers(0, CLASSES, batch)
    call, version, count = CONTENDERS[name](task, variant, dtype, (images, labels), jit)
    call()
    call()
    print(json.dumps({"version": version, "parameters": count}), flush=True)
    for _ in sys.stdin:
        start, cpu = time.perf_counter(), time.process_time()
        call()
        spent = [time.perf_counter() - start, time.process_time() - cpu]
        print(json.dumps(spent), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]), sys.argv[6] == "jit")
