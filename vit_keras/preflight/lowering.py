"""From a config to the XLA programs of its training and evaluation steps, for one replica."""

from __future__ import annotations

import dataclasses
import os
import re

import keras
import ml_collections
import tensorflow as tf

import vit_keras
from vit_keras.data import presets
from vit_keras.data.normalize import normalize_image
from vit_keras.layers import target
from vit_keras.preflight.workload import Workload, to_compile
from vit_keras.training import config_defaults, losses, replica
from vit_keras.training.build_model import build_model, build_teacher, is_two_towers
from vit_keras.training.build_train_step import build_train_step
from vit_keras.training.evaluators import ClassificationEvaluator
from vit_keras.training.train_step import TrainStep
from vit_keras.two_towers import image_embeddings

# What in a pipeline string says in which type images leave it; without any of these, as uint8.
_IMAGE_TYPES = (("bfloat16", tf.bfloat16), ("float16", tf.float16), ("value_range", tf.float32))


@dataclasses.dataclass(frozen=True)
class Programs:
    """Serialized `HloModuleProto`s of one replica.

    Attributes:
      train: one update.
      evaluate: one batch of the evaluation; None where it wasn't asked for.
      parameters: how many numbers the model has.
    """

    train: bytes
    evaluate: bytes | None
    parameters: int


def lower(config: ml_collections.ConfigDict, workload: Workload, replicas: int) -> Programs:
    """Builds what `training.train` would build, without data, and lowers its steps.

    Args:
      config: of the run; of it, what `workload.to_compile` leaves.
      workload: what is known of the data set.
      replicas: how many copies of the program run.

    Raises:
      ValueError: for what is wrong in the config, such as a batch that the replicas and
        `accum_steps` can't share evenly.
    """
    config = to_compile(config_defaults.complete(config))
    check_batches(config, replicas)
    model = build_model(config, workload.classes)
    two_towers = is_two_towers(model)
    step = build_train_step(
        config,
        model,
        workload.classes,
        total_steps=workload.total_steps,
        warmup_steps=workload.warmup_steps,
        teacher=_teacher(config, workload.classes),
    )
    specs = batch_specs(config, workload.classes, config.batch // replicas)
    if two_towers:
        length = config.text.max_length or model.get_layer("txt").input_shape[-1]
        specs["text"] = tf.TensorSpec((config.batch // replicas, length), tf.int32)
    train = lower_train_step(step, specs, replicas)
    specs = eval_specs(config, workload.classes, config.batch_eval // replicas)
    evaluate = _lower(_evaluation(config, model, two_towers), specs)
    parameters = sum(int(tf.size(weight)) for weight in step.weights.values())
    return Programs(train, evaluate, parameters)


def _teacher(config: ml_collections.ConfigDict, classes: int) -> keras.Model | None:
    """The teacher, with fresh weights where its file isn't here."""
    if config.teacher is None or os.path.exists(config.teacher):
        return build_teacher(config, classes)
    if config.teacher_model is None:
        raise ValueError(
            f"config.teacher is {config.teacher!r}, which isn't a file here; say what model it is: "
            "--config.teacher_model=VARIANT."
        )
    size = config.teacher_size or config.pp.crop
    return vit_keras.create_model(
        config.teacher_model, image_size=size, classes=classes, dtype=config.dtype
    )


def _evaluation(config: ml_collections.ConfigDict, model: keras.Model, two_towers: bool):
    """What is computed of each evaluation batch; of two towers the images' embeddings."""
    if two_towers:
        image_model = image_embeddings(model)
        dtype = tf.as_dtype(model.compute_dtype)
        return lambda batch: image_model(normalize_image(batch["image"], dtype), training=False)
    strategy = tf.distribute.get_strategy()
    loss = losses.get_loss(config.loss)
    return ClassificationEvaluator(strategy, model, lambda context: None, loss=loss).sum_batch


def check_batches(config: ml_collections.ConfigDict, replicas: int) -> None:
    """Raises a `ValueError` unless both batch sizes divide evenly, naming sizes that would."""
    for key, parts, what in (
        ("batch", replicas * config.accum_steps, f"config.accum_steps ({config.accum_steps})"),
        ("batch_eval", replicas, None),
    ):
        size = config[key]
        if size < parts or size % parts:
            below, above = size // parts * parts, -(-size // parts) * parts
            near = f"{below} or {above}" if below else f"{above}"
            times = f" times {what}" if what else ""
            raise ValueError(
                f"config.{key} is {size}; expected a multiple of the slice's {replicas} "
                f"replicas{times}, such as {near}."
            )


def lower_train_step(step: TrainStep, specs: dict[str, tf.TensorSpec], replicas: int) -> bytes:
    """The program of one update, whose gradients are summed over `replicas`."""

    def all_reduce(tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        # TensorFlow lowers CrossReplicaSum for TPU devices alone. This collective becomes the same
        # operation of XLA, all-reduce, on any device.
        return [
            tf.raw_ops.CollectiveReduceV2(
                input=tensor,
                group_size=replicas,
                group_key=1,
                instance_key=index,
                ordering_token=[],
                merge_op="Add",
                final_op="Id",
                communication_hint="nccl",
            )
            for index, tensor in enumerate(tensors)
        ]

    def run(batch):
        with replica.compiled_for(replicas, all_reduce):
            return step(batch)

    return _lower(run, specs)


def _lower(function, specs: dict[str, tf.TensorSpec]) -> bytes:
    names = list(specs)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(*tensors):
        with target.tpu():
            return function(dict(zip(names, tensors, strict=True)))

    make_ir = compiled.experimental_get_compiler_ir(*specs.values())
    return make_ir(stage="hlo_serialized")


def batch_specs(
    config: ml_collections.ConfigDict, classes: int, batch: int
) -> dict[str, tf.TensorSpec]:
    """What a replica gets of a training batch of the pipeline that `config` names."""
    size = config.pp.crop
    ops = config.pp.train_ops or presets.finetune_train(size)
    return _specs(ops, size, classes, batch)


def eval_specs(
    config: ml_collections.ConfigDict, classes: int, batch: int
) -> dict[str, tf.TensorSpec]:
    """What a replica gets of an evaluation batch."""
    size = config.pp.crop
    ops = config.pp.test_ops or presets.finetune_eval(size)
    return {**_specs(ops, size, classes, batch), "mask": tf.TensorSpec((batch,), tf.float32)}


def _specs(ops: str, size, classes: int, batch: int) -> dict[str, tf.TensorSpec]:
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    image = next((dtype for name, dtype in _IMAGE_TYPES if name in ops), tf.uint8)
    label = tf.TensorSpec((batch,), tf.int64)
    if re.search(r"\bonehot\b", ops):
        label = tf.TensorSpec((batch, classes), tf.float32)
    return {"image": tf.TensorSpec((batch, height, width, 3), image), "label": label}
