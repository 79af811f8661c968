"""From a config to the XLA programs of its training and evaluation steps, for one replica."""

from __future__ import annotations

import dataclasses
import os
import re

import ml_collections
import tensorflow as tf

from vit_keras.data import presets
from vit_keras.preflight.workload import Workload
from vit_keras.training import config_defaults, experiment, losses
from vit_keras.training.evaluators import ClassificationEvaluator
from vit_keras.training.train_step import TrainStep

# The metric that `estimated_cycles` is of; TPUs multiply in bfloat16 unless told otherwise.
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
      config: of the run. `pretrained_dir` is used only where the checkpoint is there: weights
        change nothing about the program.
      workload: what is known of the data set.
      replicas: how many copies of the program run.

    Raises:
      ValueError: for what is wrong in the config, such as a batch that the replicas and
        `accum_steps` can't share evenly.
    """
    config = config_defaults.complete(config)
    check_batches(config, replicas)
    if config.pretrained_dir is not None:
        name = config.model_or_filename or config.model.model_name
        if not os.path.exists(os.path.join(config.pretrained_dir, f"{name}.npz")):
            config.pretrained_dir = None
    model = experiment.build_model(config, workload.classes)
    step = experiment.build_train_step(
        config,
        model,
        workload.classes,
        total_steps=workload.total_steps,
        warmup_steps=workload.warmup_steps,
    )
    train = lower_train_step(
        step, batch_specs(config, workload.classes, config.batch // replicas), replicas
    )
    evaluator = ClassificationEvaluator(
        tf.distribute.get_strategy(), model, lambda context: None, loss=losses.get_loss(config.loss)
    )
    specs = eval_specs(config, workload.classes, config.batch_eval // replicas)
    evaluate = _lower(lambda batch: evaluator.sum_batch(batch), specs)
    parameters = sum(int(tf.size(weight)) for weight in step.weights.values())
    return Programs(train, evaluate, parameters)


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

    return _lower(
        lambda batch: step(batch, **({"all_reduce": all_reduce} if replicas > 1 else {})), specs
    )


def _lower(function, specs: dict[str, tf.TensorSpec]) -> bytes:
    names = list(specs)

    @tf.function(jit_compile=True, autograph=False)
    def compiled(*tensors):
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
