"""The loop: compiled inner steps, plain Python between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
import tqdm
from absl import logging

from vit_keras.training.metric_writer import MetricWriter
from vit_keras.training.multi_worker import is_multi_worker
from vit_keras.training.preemption import Preempted, StopSignal
from vit_keras.training.saving import Checkpoints, assign_variables, read_variables
from vit_keras.training.train_step import METRICS, TrainStep


class TrainingDivergedError(ArithmeticError):
    """Loss or gradients stopped being finite."""


class TrainLoop:
    """Runs a `TrainStep` to `total_steps`, saving and evaluating on the way.

    Args:
      strategy: in whose scope `train_step` was built.
      train_step: its `history_length` is the most steps that are compiled into one call.
      make_dataset: `(start_batch, input_context) -> tf.data.Dataset` of each input pipeline.
      total_steps: where to stop.
      checkpoints: where to save.
      writer: None in workers that write nothing.
      info: what every checkpoint says about the run besides its step.
      is_chief: whether to write checkpoints, and show a progress bar.
      progress_every: steps between two lines of metrics.
      checkpoint_every: steps between two checkpoints; 0: only the last.
      eval_every: steps between two evaluations; 0: only the last.
      evaluate: yields (name, value).
      profile: (first, last) steps between which a trace is written to `profile_dir`.
      profile_dir: where TensorBoard looks.
      stop: checked after each call of the compiled loop.
      beat: called with the step whenever something was finished.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        train_step: TrainStep,
        make_dataset: Callable[[int, tf.distribute.InputContext], tf.data.Dataset],
        *,
        total_steps: int,
        checkpoints: Checkpoints,
        writer: MetricWriter | None = None,
        info: dict | None = None,
        is_chief: bool = True,
        progress_every: int = 10,
        checkpoint_every: int = 0,
        eval_every: int = 0,
        evaluate: Callable[[], Iterable[tuple[str, float]]] = lambda: (),
        profile: tuple[int, int] | None = None,
        profile_dir: str = "",
        stop: StopSignal | None = None,
        beat: Callable[[int], None] = lambda step: None,
    ):
        self.strategy, self.train_step = strategy, train_step
        self.make_dataset = make_dataset
        self.total_steps = total_steps
        self.checkpoints, self.writer = checkpoints, writer
        self.info = info or {}
        self.is_chief = is_chief
        self.progress_every = progress_every
        self.checkpoint_every, self.eval_every = checkpoint_every, eval_every
        self.evaluate = evaluate
        self.profile, self.profile_dir = profile, profile_dir
        self.stop = stop or StopSignal()
        self.beat = beat
        self.metrics: dict[str, float] = {}
        self.seconds_before = 0.0
        self._inner = tf.function(self._inner_loop, autograph=False)
        self._state = train_step.state()

    def _inner_loop(self, iterator, num_steps):
        """`num_steps` steps; their metrics stay on the device, in the step's history."""

        def body(index):
            self.strategy.run(self.train_step, args=(next(iterator),))
            return (index + 1,)

        tf.while_loop(
            lambda index: index < num_steps, body, (tf.constant(0),), parallel_iterations=1
        )

    def restore(self) -> int:
        """Continues from the newest checkpoint, if any; returns the step it stands at.

        Raises:
          CheckpointError: if it is damaged or of another run.
          ValueError: if the workers don't see the same checkpoints.
        """
        path, step = self.checkpoints.latest(), 0
        if path is not None:
            arrays, info = self.checkpoints.restore(path)
            assign_variables(self._state, arrays, path)
            self.seconds_before = info.get("seconds", 0.0)
            logging.info("Continuing from %s.", path)
            step = int(arrays["step"])
        self._check_same_start(step)
        return step

    def _check_same_start(self, step: int) -> None:
        """Refuses workers that don't see the same checkpoints."""
        if not is_multi_worker(self.strategy):
            return
        steps = self.strategy.run(
            lambda: tf.distribute.get_replica_context().all_gather(tf.constant([step]), axis=0)
        )
        steps = self.strategy.experimental_local_results(steps)[0].numpy().tolist()
        if len(set(steps)) > 1:
            raise ValueError(
                f"The workers found checkpoints of different steps ({steps}) in "
                f"{self.checkpoints.directory}; expected a directory that all of them share."
            )

    def save(self, step: int) -> str | None:
        """Saves if this process is the one that does; returns the path."""
        if not self.is_chief:
            return None
        info = {**self.info, "step": step, "batches_read": step, "seconds": self.seconds}
        return self.checkpoints.save(step, read_variables(self._state), info)

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, over all its starts."""
        return self.seconds_before + time.monotonic() - self._started

    def run(self, start: int) -> dict[str, float]:
        """Trains from step `start`; returns the last metrics.

        Raises:
          Preempted: (a `SystemExit`) after a SIGTERM, having saved.
          TrainingDivergedError: if the loss is no longer finite.
          ValueError: if the data set ends before `total_steps`.
        """
        self._started = time.monotonic()
        replicas = self.strategy.num_replicas_in_sync
        batch = self.train_step.global_batch
        # A data set known to be endless keeps its static shapes on every strategy, and costs no
        # check on every replica whether there is another batch.
        endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        iterator = iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: self.make_dataset(start, context).apply(endless)
            )
        )
        step, logged = start, start
        since = None  # the first call compiles, so the rate is counted from its end
        with tqdm.tqdm(
            total=self.total_steps,
            initial=start,
            unit="step",
            disable=not self.is_chief,
            dynamic_ncols=True,
        ) as bar:
            while step < self.total_steps:
                num_steps = self._steps_until_event(step)
                self._profile(step)
                self._call_inner(iterator, step, num_steps)
                history = self._read_history(step, num_steps)
                step += num_steps
                self.beat(step)
                bar.update(num_steps)
                if step % self.progress_every == 0 or step == self.total_steps:
                    metrics = dict(zip(METRICS, map(float, history[-1]), strict=True))
                    now = time.monotonic()
                    if since is not None:
                        rate = batch * (step - logged) / (now - since)
                        metrics |= {"images_per_s": rate, "images_per_s_per_core": rate / replicas}
                    self._report(step, metrics, bar)
                    since, logged = time.monotonic(), step
                stopping = self._stop_requested()
                if stopping:
                    logging.warning("SIGTERM: saving, then ending.")
                pause = time.monotonic()
                if self._is_due(step, self.checkpoint_every) or stopping:
                    path = self.save(step)
                    if stopping and step < self.total_steps:
                        raise Preempted(step, path or self.checkpoints.latest())
                    self.beat(step)
                if self._is_due(step, self.eval_every):
                    evaluated = dict(self.evaluate())
                    if evaluated:
                        self._report(step, evaluated, bar)
                    self.beat(step)
                if since is not None:
                    since += time.monotonic() - pause
                elif step == start + num_steps:
                    since, logged = time.monotonic(), step
            if start == self.total_steps:  # killed after the last checkpoint
                self._report(step, dict(self.evaluate()), bar)
        self._profile(step, ended=True)
        return self.metrics

    def _steps_until_event(self, step: int) -> int:
        """Steps to run in one call: up to whatever is next to be done between steps."""
        ends = [self.total_steps, step + self.train_step.history.shape[0]]
        for every in (self.progress_every, self.checkpoint_every, self.eval_every):
            if every:
                ends.append((step // every + 1) * every)
        if self.profile:
            ends += [end for end in self.profile if end > step]
        return min(ends) - step

    def _is_due(self, step: int, every: int) -> bool:
        return step == self.total_steps or bool(every and step % every == 0)

    def _stop_requested(self) -> bool:
        """Whether any worker was told to stop; all of them must agree on the step."""
        if not is_multi_worker(self.strategy):
            return self.stop.received
        flag = tf.constant(float(self.stop.received))
        total = self.strategy.run(
            lambda: tf.distribute.get_replica_context().all_reduce("sum", flag)
        )
        return float(self.strategy.experimental_local_results(total)[0]) > 0

    def _call_inner(self, iterator, step: int, num_steps: int) -> None:
        try:
            self._inner(iterator, tf.constant(num_steps))
        except (tf.errors.OutOfRangeError, tf.errors.FailedPreconditionError) as error:
            if "expected to contain an infinite number" not in str(error):
                raise
            raise ValueError(
                f"The training data ended between steps {step} and {step + num_steps} of "
                f"{self.total_steps}. {self._last_checkpoint()}"
            ) from error
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            if is_multi_worker(self.strategy):
                raise  # `train` says what that means
            # A worker of the pod is gone (preempted): nothing can be saved, all must be restarted.
            logging.exception("A worker is gone at a step after %d.", step)
            raise Preempted(step, self.checkpoints.latest()) from error

    def _read_history(self, step: int, num_steps: int) -> np.ndarray:
        """Metrics of the last steps, (num_steps, metrics); refuses those that aren't finite."""
        rows = np.arange(step, step + num_steps) % self.train_step.history.shape[0]
        history = self.train_step.history.numpy()[rows]
        finite = np.isfinite(history[:, 0])
        if self.train_step.loss_scale is None:
            finite &= np.isfinite(history[:, 1])
        if not finite.all():
            bad = int(np.argmin(finite))
            norms = self.train_step.grad_norms.numpy()
            order = np.argsort(np.where(np.isfinite(norms), norms, np.inf))[::-1][:5]
            largest = "\n  ".join(
                f"{self.train_step.settings[i].name}: {norms[i]:.4g}" for i in order
            )
            raise TrainingDivergedError(
                f"Step {step + bad + 1}: the loss is {history[bad, 0]}, the gradient norm "
                f"{history[bad, 1]}. Largest gradient norms in the first bad step:\n  {largest}\n"
                f"{self._last_checkpoint()}"
            )
        return history

    def _last_checkpoint(self) -> str:
        latest = self.checkpoints.latest()
        return f"The last good checkpoint is {latest}." if latest else "No checkpoint was saved."

    def _report(self, step: int, metrics: dict[str, float], bar: tqdm.tqdm) -> None:
        self.metrics |= metrics
        if self.writer is not None:
            self.writer.write(step, metrics)
        short = {"learning_rate": "lr", "images_per_s": "img/s", "images_per_s_per_core": "/core"}
        shown = {key: value for key, value in self.metrics.items() if key != "grad_norm"}
        bar.set_postfix({short.get(k, k): f"{v:.4g}" for k, v in shown.items()}, refresh=True)
        logging.info(
            "step %d/%d: %s",
            step,
            self.total_steps,
            ", ".join(f"{key} {value:.6g}" for key, value in metrics.items()),
        )

    def _profile(self, step: int, ended: bool = False) -> None:
        if self.profile is None:
            return
        first, last = self.profile
        if step == first and not ended:
            tf.profiler.experimental.start(self.profile_dir)
            self._profiling = True
        elif (step >= last or ended) and getattr(self, "_profiling", False):
            tf.profiler.experimental.stop()
            self._profiling = False
            logging.info("Trace of steps %d to %d is in %s.", first, step, self.profile_dir)
