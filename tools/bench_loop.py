"""How much the training loop costs beside the model: `python tools/bench_loop.py`.

On one device, the same model, batch and update (softmax cross-entropy, clip by global norm 1.0, SGD
momentum) in four loops:

  bare     a tf.function around forward, backward, clip and update, ten steps a call, nothing else
  engine   vit_keras.training.TrainLoop: metrics, progress bar, JSON lines and TensorBoard included
  fit      model.fit
  fit10    model.fit with steps_per_execution=10

The loops take turns, round by round, so that what else the machine does hits them alike. Prints
images/s of each (median over the rounds) and the median of the rounds' ratios, of wall time and of
the process's CPU time, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import vit_keras
from vit_keras import compat
from vit_keras.training import Schedule, TrainLoop, TrainStep, get_strategy, losses, tasks
from vit_keras.training.metric_writer import MetricWriter
from vit_keras.training.optimizers import SGD
from vit_keras.training.parameter_settings import make_settings
from vit_keras.training.saving import Checkpoints

RATE, CHUNK = 0.001, 10


class Clock(MetricWriter):
    """A writer that notes when it wrote training metrics."""

    def __init__(self, workdir: str):
        super().__init__(workdir)
        self.times: list[tuple[float, float]] = []

    def write(self, step: int, metrics) -> None:
        """Writes, then looks at the clocks."""
        super().write(step, metrics)
        if "loss" in metrics:
            self.times.append((time.perf_counter(), time.process_time()))


class Bench:
    """One model and its endless data set."""

    def __init__(self, model: str, image_size: int, batch: int):
        self.batch = batch
        self.strategy = get_strategy("one_device")
        self.make_model = lambda: vit_keras.create_model(model, image_size=image_size, classes=10)
        rng = np.random.default_rng(0)
        self.images = rng.uniform(-1, 1, (batch, image_size, image_size, 3)).astype(np.float32)
        self.labels = rng.integers(0, 10, batch)

    def dataset(self, *keys: str) -> tf.data.Dataset:
        """The same batch for ever: no loop waits for input."""
        arrays = {"image": self.images, "label": self.labels}
        element = arrays if not keys else tuple(arrays[key] for key in keys)
        return tf.data.Dataset.from_tensors(element).repeat().prefetch(2)

    def bare(self):
        """Returns `steps -> (seconds, CPU seconds) a step`."""
        model = self.make_model()
        variables = [compat.tf_variable(v) for v in model.trainable_variables]
        momenta = [tf.Variable(tf.zeros_like(v)) for v in variables]
        iterator = iter(self.dataset("image", "label"))

        def step():
            images, labels = next(iterator)
            with tf.GradientTape() as tape:
                logits = model(images, training=True)
                loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                loss = tf.reduce_mean(loss)
            gradients, _ = tf.clip_by_global_norm(tape.gradient(loss, variables), 1.0)
            for variable, momentum, gradient in zip(variables, momenta, gradients, strict=True):
                momentum.assign(0.9 * momentum + gradient)
                variable.assign_sub(RATE * momentum)
            return loss

        @tf.function
        def chunk():
            loss = tf.constant(0.0)
            for _ in tf.range(CHUNK):
                loss = step()
            return loss

        def run(steps: int) -> tuple[float, float]:
            started, cpu = time.perf_counter(), time.process_time()
            for _ in range(steps // CHUNK):
                float(chunk())
            seconds = time.perf_counter() - started
            return seconds / steps, (time.process_time() - cpu) / steps

        return run

    def engine(self, workdir: str):
        """Returns `steps -> (seconds, CPU seconds) a step`, of the whole loop."""
        with self.strategy.scope():
            model = self.make_model()
            named = vit_keras.checkpoints.named_weights(model)
            step = TrainStep(
                model,
                named,
                tasks.classification(losses.softmax_cross_entropy),
                SGD(accumulator_dtype="float32"),
                Schedule(RATE, 10**6, "constant"),
                make_settings(named),
                global_batch=self.batch,
                grad_norm_clip=1.0,
                history_length=CHUNK,
            )
        clock = Clock(workdir)
        loop = TrainLoop(
            self.strategy,
            step,
            lambda start, context: self.dataset(),
            total_steps=0,
            checkpoints=Checkpoints(os.path.join(workdir, "checkpoints")),
            writer=clock,
            progress_every=CHUNK,
        )
        loop.save = lambda step: None  # what saving costs depends on how often one asks for it

        def run(steps: int) -> tuple[float, float]:
            start = loop.total_steps
            # One chunk more: when its line is written, the clock starts.
            loop.total_steps += steps + CHUNK
            clock.times.clear()
            with contextlib.redirect_stderr(open(os.devnull, "w")):
                loop.run(start)
            (wall, cpu), (wall_end, cpu_end) = clock.times[0], clock.times[-1]
            return (wall_end - wall) / steps, (cpu_end - cpu) / steps

        return run

    def fit(self, steps_per_execution: int):
        """Returns `steps -> (seconds, CPU seconds) a step`."""
        model = self.make_model()
        model.compile(
            keras.optimizers.SGD(RATE, momentum=0.9, global_clipnorm=1.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            steps_per_execution=steps_per_execution,
        )
        dataset = self.dataset("image", "label")

        class EpochClock(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch, logs=None):
                self.started, self.cpu = time.perf_counter(), time.process_time()

            def on_epoch_end(self, epoch, logs=None):
                self.seconds = time.perf_counter() - self.started
                self.cpu = time.process_time() - self.cpu

        def run(steps: int) -> tuple[float, float]:
            clock = EpochClock()
            model.fit(dataset, epochs=1, steps_per_epoch=steps, verbose=0, callbacks=[clock])
            return clock.seconds / steps, clock.cpu / steps

        return run


def main() -> None:
    """Runs the rounds and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="Ti/16", help="a variant of vit_keras.create_model")
    parser.add_argument("--image_size", type=int, default=64, help="pixels")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--steps", type=int, default=40, help="in a round; a multiple of 10")
    parser.add_argument("--rounds", type=int, default=7, help="how often the loops take turns")
    arguments = parser.parse_args()
    if arguments.steps % CHUNK:
        parser.error(f"--steps is {arguments.steps}; expected a multiple of {CHUNK}")

    bench = Bench(arguments.model, arguments.image_size, arguments.batch)
    with tempfile.TemporaryDirectory() as workdir:
        loops = {
            "bare": bench.bare(),
            "engine": bench.engine(workdir),
            "fit": bench.fit(1),
            "fit10": bench.fit(10),
        }
        seconds = {name: [] for name in loops}
        for name, run in list(loops.items()):
            try:
                run(2 * CHUNK)  # compiles
            except (ValueError, TypeError, tf.errors.OpError) as error:
                print(f"{name} fails here: {str(error).splitlines()[0]}")
                del loops[name]
        for number in range(arguments.rounds):
            order = list(loops.items())
            for name, run in order[number % len(order) :] + order[: number % len(order)]:
                seconds[name].append(run(arguments.steps))

    print(
        f"{arguments.model} at {arguments.image_size} px, batch {arguments.batch}, "
        f"{arguments.rounds} rounds of {arguments.steps} steps; TensorFlow {tf.__version__}, "
        f"Keras {keras.__version__}, {tf.config.list_logical_devices()[-1].name}"
    )
    for name in loops:
        rate = arguments.batch / statistics.median(wall for wall, _ in seconds[name])
        print(f"{name:7} {rate:9.1f} images/s")
    for name in [name for name in loops if name != "engine"]:
        for index, kind in enumerate(("wall", "CPU")):
            ratios = [
                other[index] / own[index]
                for other, own in zip(seconds[name], seconds["engine"], strict=True)
            ]
            print(
                f"engine / {name:5} {statistics.median(ratios):6.3f} by {kind} time "
                f"(rounds: {min(ratios):.3f} to {max(ratios):.3f})"
            )


if __name__ == "__main__":
    main()
