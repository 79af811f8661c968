"""One training step: forward, backward, one all-reduce, clip, update, EMA.

Written out instead of left to `keras.Model.fit`, whose optimizers clip before they aggregate and
whose dropout masks repeat on every replica (Keras 3). Runs inside `strategy.run`, alone, or in
a program that is only compiled (see `preflight`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from vit_keras import compat
from vit_keras.layers.random import seed_scope
from vit_keras.training import micro_batches, replica
from vit_keras.training.gradient_norms import sums_of_squares
from vit_keras.training.loss_scale import DynamicLossScale
from vit_keras.training.optimizers import UpdateRule, apply_update
from vit_keras.training.parameter_settings import ParameterSettings
from vit_keras.training.sharpness import SharpnessAware

Batch = dict[str, tf.Tensor]
METRICS = ("loss", "grad_norm", "learning_rate")


class TrainStep(tf.Module):
    """Everything that a step changes, and the step. Build it in the strategy's scope.

    Args:
      model: maps images to logits; any Keras model whose variables exist.
      named_weights: name -> Keras variable of everything that the model holds.
      task: `(model, batch, training) -> (batch,)` float32 losses; see `tasks`.
      rule: the optimizer's rule.
      schedule: learning rate from the step; `schedule.base_lr` is its peak.
      settings: per parameter; those of variables that are not trainable must be frozen.
      global_batch: examples in a step, over all replicas and micro-batches.
      accum_steps: micro-batches that each replica's share of the batch is split into.
      grad_norm_clip: largest global norm of the gradient; None: no limit.
      weight_decay_form: `big_vision`: decay follows the schedule relative to its peak;
        `keras`: decay is multiplied by the learning rate itself.
      ema_decay: keep an exponential moving average of the weights with this decay.
      prepare: `(batch, seed) -> batch` on the device, before micro-batches are made (mixup).
      sharpness: SAM or GSAM.
      loss_scale: for float16.
      alternatives: models of the same parameters; each step trains one of them, drawn anew for
        all replicas and micro-batches alike. Without any, each step trains `model`.
      seed: of everything random in the step.
      history_length: most steps between two `read_history`.
    """

    def __init__(
        self,
        model: keras.Model,
        named_weights: dict[str, keras.Variable | tf.Variable],
        task: Callable[[keras.Model, Batch, bool], tf.Tensor],
        rule: UpdateRule,
        schedule,
        settings: Sequence[ParameterSettings],
        *,
        global_batch: int,
        accum_steps: int = 1,
        grad_norm_clip: float | None = None,
        weight_decay_form: str = "big_vision",
        ema_decay: float | None = None,
        prepare: Callable[[Batch, tf.Tensor], Batch] | None = None,
        sharpness: SharpnessAware | None = None,
        loss_scale: DynamicLossScale | None = None,
        alternatives: Sequence[keras.Model] = (),
        seed: int = 0,
        history_length: int = 1,
    ):
        super().__init__(name="train_step")
        if accum_steps < 1:
            raise ValueError(f"accum_steps is {accum_steps}; expected at least 1.")
        if weight_decay_form not in ("big_vision", "keras"):
            raise ValueError(
                f"weight_decay_form is {weight_decay_form!r}; expected 'big_vision' or 'keras'."
            )
        self.model = model
        self.weights = {name: compat.tf_variable(v) for name, v in named_weights.items()}
        self.task, self.rule, self.schedule = task, rule, schedule
        self.settings = [setting for setting in settings if not setting.frozen]
        self.global_batch, self.accum_steps = global_batch, accum_steps
        self.grad_norm_clip = grad_norm_clip
        self.weight_decay_form = weight_decay_form
        self.ema_decay = ema_decay
        self.prepare, self.sharpness, self.loss_scale = prepare, sharpness, loss_scale
        self.alternatives = tuple(alternatives)
        self.seed = seed
        self.parameters = [self.weights[setting.name] for setting in self.settings]
        if not self.parameters:
            raise ValueError("Every parameter is frozen; there is nothing to train.")
        self.slots = [
            {
                slot: _zeros(f"{slot}/{setting.name}", shape, dtype)
                for slot, (shape, dtype) in rule.slots(tuple(parameter.shape)).items()
            }
            for setting, parameter in zip(self.settings, self.parameters, strict=True)
        ]
        self.ema = []
        if ema_decay is not None:
            self.ema = [tf.Variable(p.read_value(), trainable=False) for p in self.parameters]
        self.step = _zeros("step", (), tf.int32)
        self.history = _zeros("history", (history_length, len(METRICS)), tf.float32)
        # Gradient norms of each parameter in the last step whose predecessors were all finite.
        self.grad_norms = _zeros("grad_norms", (len(self.parameters),), tf.float32)

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a checkpoint must hold, by name."""
        state = {f"weights/{name}": variable for name, variable in self.weights.items()}
        for setting, slots in zip(self.settings, self.slots, strict=True):
            for slot, variable in slots.items():
                state[f"optimizer/{slot}/{setting.name}"] = variable
        for setting, variable in zip(self.settings, self.ema, strict=False):
            state[f"ema/{setting.name}"] = variable
        if self.loss_scale is not None:
            state["loss_scale/scale"] = self.loss_scale.scale
            state["loss_scale/good_steps"] = self.loss_scale.good_steps
        state["step"] = self.step
        return state

    def __call__(self, batch: Batch) -> None:
        """Makes one update from this replica's part of the batch.

        Args:
          batch: tensors whose first axis is the replica's share of the global batch.
        """
        step = self.step.read_value()
        # All replicas share `seed`; what must differ between them folds its number in.
        seed = tf.random.experimental.stateless_fold_in(
            tf.constant([self.seed, 0x717], tf.int32), step
        )
        own_seed = tf.random.experimental.stateless_fold_in(seed, replica.replica_id())
        if self.prepare is not None:
            batch = self.prepare(batch, own_seed)

        learning_rate = tf.cast(self.schedule(step), tf.float32)
        relative_lr = learning_rate / self.schedule.base_lr
        loss, gradients = self._global_gradients(batch, own_seed)
        if self.sharpness is not None:
            gradients = self._sharpness_aware(
                batch, own_seed, gradients, self.sharpness.radius(relative_lr)
            )
        squares = sums_of_squares(gradients)
        norm = tf.sqrt(tf.reduce_sum(squares))
        if self.grad_norm_clip is not None:
            too_long = norm > self.grad_norm_clip
            shrink = self.grad_norm_clip / tf.where(too_long, norm, 1.0)
            gradients = [g * tf.where(too_long, shrink, 1.0) for g in gradients]

        variables, values = self._update(gradients, learning_rate, relative_lr, step)
        if self.loss_scale is not None:
            finite = tf.math.is_finite(norm)
            values = [
                tf.where(finite, new, old.read_value())
                for old, new in zip(variables, values, strict=True)
            ]
            for variable, value in self.loss_scale.updates(finite):
                variables.append(variable)
                values.append(value)
        row = step % self.history.shape[0]
        metrics = tf.stack([loss, norm, learning_rate])
        history = tf.where(
            tf.range(self.history.shape[0])[:, tf.newaxis] == row, metrics, self.history
        )
        was_finite = tf.math.is_finite(tf.reduce_sum(self.grad_norms))
        grad_norms = tf.where(was_finite, tf.sqrt(squares), self.grad_norms)
        variables += [self.step, self.history, self.grad_norms]
        values += [step + 1, history, grad_norms]
        replica.assign(variables, values)

    def _global_gradients(self, batch, seed):
        """Loss and gradients (float32) of the whole batch's mean."""
        loss, gradients = micro_batches.accumulate(
            self._gradients, batch, seed, self.parameters, self.accum_steps
        )
        loss, *gradients = replica.sum_over_replicas([loss, *gradients])
        if self.loss_scale is not None:
            gradients = [g / self.loss_scale.scale for g in gradients]
        return loss, gradients

    def _gradients(self, batch, seed):
        if len(self.alternatives) < 2:
            model = self.alternatives[0] if self.alternatives else self.model
            return self._gradients_of(model, batch, seed)
        # Each branch makes its own gradients: what one keeps for them needn't fit the others.
        draw = tf.random.stateless_uniform(
            (), [self.seed, self.step.read_value()], 0, len(self.alternatives), tf.int32
        )
        branches = [
            functools.partial(self._gradients_of, model, batch, seed) for model in self.alternatives
        ]
        return tf.switch_case(draw, branches)

    def _gradients_of(self, model, batch, seed):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(self.parameters)
            with seed_scope(seed):
                loss = tf.reduce_sum(self.task(model, batch, True)) / self.global_batch
            scaled = loss if self.loss_scale is None else loss * self.loss_scale.scale
        gradients = tape.gradient(
            scaled, self.parameters, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return loss, [tf.cast(tf.convert_to_tensor(g), tf.float32) for g in gradients]

    def _sharpness_aware(self, batch, seed, gradients, radius):
        norm = tf.sqrt(tf.reduce_sum(sums_of_squares(gradients)))
        scale = radius / (norm + 1e-12)
        originals = [p.read_value() for p in self.parameters]
        replica.assign(
            self.parameters,
            [p + tf.cast(scale * g, p.dtype) for p, g in zip(originals, gradients, strict=True)],
        )
        _, perturbed = self._global_gradients(batch, seed)
        replica.assign(self.parameters, originals)
        return self.sharpness.combine(gradients, perturbed)

    def _update(self, gradients, learning_rate, relative_lr, step):
        """The variables that the optimizer changes, and their new values."""
        variables, values = [], []
        step = tf.cast(step, tf.float32)
        for index, (setting, parameter, gradient) in enumerate(
            zip(self.settings, self.parameters, gradients, strict=True)
        ):
            old = parameter.read_value()
            old_float = tf.cast(old, tf.float32)
            slots = {slot: variable.read_value() for slot, variable in self.slots[index].items()}
            update, new_slots = self.rule.update(
                gradient, old_float, slots, step, weight_decay=setting.weight_decay
            )
            decay = 0.0
            if setting.weight_decay and not self.rule.decays_itself:
                follows = relative_lr if self.weight_decay_form == "big_vision" else learning_rate
                decay = setting.weight_decay * follows
            new = apply_update(
                old_float,
                update,
                learning_rate=learning_rate * setting.lr_multiplier,
                decay=decay,
            )
            variables.append(parameter)
            values.append(tf.cast(new, parameter.dtype))
            for slot, value in new_slots.items():
                variables.append(self.slots[index][slot])
                values.append(value)
            if self.ema:
                average = self.ema[index].read_value()
                variables.append(self.ema[index])
                average += (1.0 - self.ema_decay) * (tf.cast(new, average.dtype) - average)
                values.append(average)
        return variables, values

    def swap_ema(self) -> None:
        """Exchanges weights and their averages; call it in a replica, twice to undo it."""
        weights = [p.read_value() for p in self.parameters]
        averages = [average.read_value() for average in self.ema]
        replica.assign([*self.parameters, *self.ema], [*averages, *weights])


def _zeros(name: str, shape: tuple[int, ...], dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=name.replace("/", "_"))
