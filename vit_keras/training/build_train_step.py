"""The training step that a config describes."""

from __future__ import annotations

from typing import Any

import keras
import ml_collections

import vit_keras
from vit_keras.training import losses, parameter_settings, schedules, tasks
from vit_keras.training.build_model import is_two_towers
from vit_keras.training.flexible import at_patch_size
from vit_keras.training.loss_scale import DynamicLossScale
from vit_keras.training.mixing_step import make_mixing
from vit_keras.training.optimizers import get_rule
from vit_keras.training.pruning import prune_last_block
from vit_keras.training.sharpness import SharpnessAware
from vit_keras.training.train_step import TrainStep

# What only a classifier has.
_OF_CLASSIFIERS = ("teacher", "mixup", "cutmix", "label_smoothing")


def build_train_step(
    config: ml_collections.ConfigDict,
    model: keras.Model,
    num_classes: int,
    *,
    total_steps: int,
    warmup_steps: int,
    teacher: keras.Model | None = None,
) -> TrainStep:
    """The step of the run that a (complete) `config` describes; call it in the strategy's scope.

    Args:
      config: as `config_defaults.complete` makes it.
      model: what `build_model` made of it.
      num_classes: of the data set.
      total_steps: updates in the run.
      warmup_steps: updates until the learning rate is at its peak; cut at `total_steps`.
      teacher: of the distillation, see `build_teacher`; None for none.
    """
    named = vit_keras.checkpoints.named_weights(model)
    trainable = {id(variable) for variable in model.trainable_weights}
    settings = parameter_settings.make_settings(
        [name for name, variable in named.items() if id(variable) in trainable],
        lr_multipliers=config.lr_multipliers,
        weight_decay=config.weight_decay,
        weight_decay_multipliers=config.weight_decay_multipliers,
        frozen=config.frozen,
        layer_decay=config.layer_decay,
    )
    parameter_settings.log_settings(settings, [tuple(named[s.name].shape) for s in settings])
    sharpness = None
    if config.sharpness.rho is not None:
        sharpness = SharpnessAware(**config.sharpness)
    if is_two_towers(model):
        _refuse_for_two_towers(config)
        task = tasks.two_towers(config.loss)
    else:
        task = tasks.classification(
            losses.get_loss(config.loss),
            label_smoothing=config.label_smoothing,
            teacher=teacher,
            temperature=config.teacher_temperature,
        )
    if config.prune_last_block:
        prune_last_block(model)
    return TrainStep(
        model,
        named,
        task,
        get_rule(config.optimizer, **_optimizer_args(config)),
        schedules.Schedule(
            config.base_lr,
            total_steps,
            config.decay_type,
            min(warmup_steps, total_steps),
            config.cooldown_steps,
            config.linear_end,
            config.timescale,
        ),
        settings,
        global_batch=config.batch,
        accum_steps=config.accum_steps,
        grad_norm_clip=config.grad_norm_clip,
        weight_decay_form=config.weight_decay_form,
        ema_decay=config.ema_decay,
        prepare=make_mixing(config.mixup, config.cutmix, num_classes, model.compute_dtype),
        sharpness=sharpness,
        loss_scale=DynamicLossScale() if "float16" in _float16(config) else None,
        alternatives=[at_patch_size(model, patch) for patch in config.flexi.patch_sizes],
        seed=config.seed,
        history_length=config.steps_per_loop or config.progress_every or 10,
    )


def _refuse_for_two_towers(config: ml_collections.ConfigDict) -> None:
    for key in _OF_CLASSIFIERS:
        if config[key]:
            raise ValueError(f"config.{key} is {config[key]!r}, but two towers have no classes.")


def _float16(config: ml_collections.ConfigDict) -> str:
    return "" if "bfloat16" in config.dtype else config.dtype


def _optimizer_args(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """The rule's hyperparameters, `optim_dtype` under the name that the rule has for it."""
    key = "accumulator_dtype" if config.optimizer == "sgd" else "momentum_dtype"
    return {key: config.optim_dtype, **config.optimizer_args}
