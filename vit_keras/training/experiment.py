"""A whole experiment from a config: data, model, optimizer, loop, evaluation."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from typing import Any

import keras
import ml_collections
import tensorflow as tf
from absl import logging

from vit_keras import data, two_towers
from vit_keras.checkpoints.download import local_path
from vit_keras.data import presets
from vit_keras.data.captions import Captions
from vit_keras.models.tokenizers import get_tokenizer
from vit_keras.names import unknown_name
from vit_keras.training import config_defaults, losses, schedules
from vit_keras.training import workdir as workdirs
from vit_keras.training.build_model import build_model, build_teacher, is_two_towers
from vit_keras.training.build_train_step import build_train_step
from vit_keras.training.evaluators import (
    ClassificationEvaluator,
    FeatureExtractor,
    FewShotEvaluator,
    KNNEvaluator,
    RetrievalEvaluator,
    ZeroShotEvaluator,
    representation_model,
)
from vit_keras.training.flexible import at_patch_size
from vit_keras.training.metric_writer import MetricWriter
from vit_keras.training.multi_worker import environment_workers, lost_worker
from vit_keras.training.preemption import StopSignal, WorkerLost
from vit_keras.training.pruning import restore_last_block
from vit_keras.training.saving import Checkpoints
from vit_keras.training.strategy import get_strategy, is_chief
from vit_keras.training.train_loop import TrainLoop
from vit_keras.training.train_step import TrainStep
from vit_keras.training.watchdog import Watchdog


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """What a run ended with.

    Attributes:
      model: with the final weights (their moving average, if the run kept one).
      metrics: the last value of each, and `core_hours`.
      step: updates made over all starts of the run.
      is_chief: whether this process is the one that writes what all workers share.
      already_finished: nothing was done, because an earlier start had finished.
      class_names: of the data set.
      config: with every key set.
    """

    model: keras.Model
    metrics: dict[str, float]
    step: int
    is_chief: bool
    already_finished: bool
    class_names: list[str]
    config: ml_collections.ConfigDict


def train(config: ml_collections.ConfigDict, workdir: str) -> TrainResult:
    """Trains, evaluates and saves in `workdir`, or continues what was begun there.

    Args:
      config: keys of `config_defaults.get_config`; those left out take their defaults.
      workdir: local or `gs://`: gets `config.json`, `environment.json`, `metrics.jsonl`,
        `tensorboard/`, `checkpoints/` and, at the end, `result.json`.

    Raises:
      ValueError: for what is wrong in the config, or a `workdir` of another config.
      Preempted: (a `SystemExit` with code 75) after a SIGTERM; the next start continues.
      WorkerLost: (a `SystemExit` with code 76) when another worker of several is gone.
      TrainingDivergedError: when the loss is no longer finite.
      CheckpointError: when a checkpoint can't be written or read.
    """
    with StopSignal() as stop, data.told_plainly():
        try:
            return Experiment(config, workdir, stop).run()
        except tf.errors.OpError as error:
            reason = lost_worker(error)
            if reason is None or len(environment_workers()) < 2:
                raise
            checkpoints = Checkpoints(os.path.join(workdir, "checkpoints"))
            step = max(checkpoints.steps(), default=0)
            raise WorkerLost(step, checkpoints.latest(), reason) from error


class Experiment:
    """The parts of a run, built from its config; `train` runs it."""

    def __init__(self, config: ml_collections.ConfigDict, workdir: str, stop: StopSignal):
        self.config = config = config_defaults.complete(config)
        self.workdir, self.stop = str(workdir), stop
        self.watchdog = Watchdog(config.hang_seconds)
        if not config.dataset:
            raise ValueError("config.dataset is not set; expected a TFDS name or a folder.")
        self.strategy = get_strategy(
            config.strategy, tpu=config.tpu, num_devices=config.num_devices
        )
        self.stop.again()
        self.is_chief = is_chief(self.strategy)
        replicas = self.strategy.num_replicas_in_sync
        if config.batch % (replicas * config.accum_steps):
            raise ValueError(
                f"config.batch is {config.batch}; expected a multiple of the {replicas} replicas "
                f"times config.accum_steps ({config.accum_steps})."
            )
        if config.trainer != "train":
            raise ValueError(f"config.trainer is {config.trainer!r}; only 'train' exists here.")
        if config.deterministic:
            tf.config.experimental.enable_op_determinism()
        keras.utils.set_random_seed(config.seed)
        self.source = data.get_source(
            config.dataset,
            data_dir=config.tfds_data_dir,
            manual_dir=config.tfds_manual_dir,
            on_bad_image=config.on_bad_image,
            text_feature=config.text.feature,
        )
        self.total_steps = self._steps("total")
        self.config.total_steps = self.total_steps
        self.config.total_epochs = self.config.total_examples = None
        workdirs.claim(self.workdir, config.to_dict(), write=False)
        with self.strategy.scope():
            self.model = build_model(config, self.source.num_classes)
            self.train_step = self._train_step()
        self.captions = self._captions() if is_two_towers(self.model) else None
        self._swap_ema = tf.function(lambda: self.strategy.run(self.train_step.swap_ema))
        if self.captions is None:
            self.evaluators = self._test_evaluators()
        else:
            self.evaluators = [self._two_towers_evaluator()]
        for name, options in config.evaluators.items():
            self.evaluators.append(self._feature_evaluator(name, options.to_dict()))
        self.loop = self._loop()

    def run(self) -> TrainResult:
        """Runs what is left of the run."""
        start = self.loop.restore()
        finished = workdirs.read_result(self.workdir)
        if finished is not None and start == self.total_steps:
            logging.info("The run in %s is already finished.", self.workdir)
            self._use_ema()
            return self._result(finished, already_finished=True)
        if self.is_chief:
            # Only now: a config that couldn't be built must not own the directory.
            workdirs.claim(self.workdir, self.config.to_dict())
            workdirs.write_json(
                os.path.join(self.workdir, "environment.json"), workdirs.environment(self.strategy)
            )
        with self.watchdog:
            metrics = self.loop.run(start)
        self.source.bad_images.report()
        cores = self.strategy.num_replicas_in_sync
        metrics = {**metrics, "core_hours": self.loop.seconds / 3600 * cores}
        if self.is_chief:
            workdirs.write_result(self.workdir, metrics)
        logging.info("Finished after %.4f core-hours.", metrics["core_hours"])
        self._use_ema()
        return self._result(metrics, already_finished=False)

    def _result(self, metrics: dict[str, float], already_finished: bool) -> TrainResult:
        restore_last_block(self.model)
        return TrainResult(
            model=self.model,
            metrics=metrics,
            step=self.total_steps,
            is_chief=self.is_chief,
            already_finished=already_finished,
            class_names=list(self.source.class_names),
            config=self.config,
        )

    def _steps(self, name: str, default: int | None = None) -> int:
        config = self.config
        return schedules.to_steps(
            name,
            steps=config[f"{name}_steps"],
            epochs=config[f"{name}_epochs"],
            examples=config[f"{name}_examples"],
            batch=config.batch,
            num_examples=self.source.num_examples(config.pp.train),
            default=default,
        )

    def _train_step(self) -> TrainStep:
        warmup = self._steps("warmup", default=0)
        return build_train_step(
            self.config,
            self.model,
            self.source.num_classes,
            total_steps=self.total_steps,
            warmup_steps=warmup,
            teacher=build_teacher(self.config, self.source.num_classes),
        )

    def _loop(self) -> TrainLoop:
        config = self.config
        size = config.pp.crop
        preprocess = config.pp.train_ops or presets.finetune_train(size)
        data.build_pipeline(preprocess)  # a mistake in it shows now, not when the data is read

        def make_dataset(start, context):
            return data.train_dataset(
                self.source,
                config.pp.train,
                preprocess,
                config.batch,
                shuffle_buffer=config.shuffle_buffer,
                seed=config.seed,
                start_batch=start,
                input_context=context,
                cache_raw=config.cache_raw,
                captions=self.captions,
            ).prefetch(config.prefetch)

        profile = None
        if config.profile:
            first, _, last = config.profile.partition(":")
            if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
                raise ValueError(f"config.profile is {config.profile!r}; expected 'first:last'.")
            profile = (int(first), int(last))
        return TrainLoop(
            self.strategy,
            self.train_step,
            make_dataset,
            total_steps=self.total_steps,
            checkpoints=Checkpoints(
                os.path.join(self.workdir, "checkpoints"),
                config.keep_checkpoints,
                config.keep_checkpoint_every,
            ),
            writer=MetricWriter(self.workdir) if self.is_chief else None,
            info={"seed": config.seed, "batch": config.batch},
            is_chief=self.is_chief,
            progress_every=config.progress_every,
            checkpoint_every=config.checkpoint_every,
            eval_every=config.eval_every,
            evaluate=self._evaluate,
            profile=profile,
            profile_dir=os.path.join(self.workdir, "tensorboard"),
            stop=self.stop,
            beat=self.watchdog.beat,
        )

    def _test_data(self, captions: Captions | None = None):
        """Makes the evaluation's input for `EvalInput`."""
        config = self.config
        preprocess = config.pp.test_ops or presets.finetune_eval(config.pp.crop)
        data.build_pipeline(preprocess)

        def make_dataset(context):
            return data.eval_dataset(
                self.source,
                config.pp.test,
                preprocess,
                config.batch_eval,
                input_context=context,
                captions=captions,
            )

        return make_dataset

    def _test_evaluators(self) -> list[ClassificationEvaluator]:
        """Accuracy on `pp.test`, for FlexiViT also at other patch sizes."""
        models = {"test": self.model}
        with self.strategy.scope():
            for patch in self.config.flexi.eval_patch_sizes:
                models[f"test_patch{patch}"] = at_patch_size(self.model, patch)
        make_dataset, loss = self._test_data(), losses.get_loss(self.config.loss)
        return [
            ClassificationEvaluator(self.strategy, model, make_dataset, loss=loss, name=name)
            for name, model in models.items()
        ]

    def _captions(self) -> Captions:
        text = self.config.text
        if text.vocabulary is None:
            raise ValueError(
                "config.text.vocabulary is not set; two towers need the file of their tokenizer's "
                "vocabulary (see vit_keras.catalog.fetch_vocabulary)."
            )
        several_hosts = getattr(self.strategy.extended, "num_hosts", 1) > 1
        if text.feature is not None and several_hosts and not self.source.text_is_tokens:
            raise ValueError(
                f"config.text.feature is {text.feature!r}, which holds strings; a TPU pod needs "
                "captions that are int32 tokens already (see vit_keras/data/captions.py)."
            )
        tokenizer = get_tokenizer(
            text.tokenizer,
            local_path(text.vocabulary),
            text.max_length or self.model.get_layer("txt").input_shape[-1],
            **text.options,
        )
        return Captions(self.source, tokenizer, text.templates)

    def _two_towers_evaluator(self):
        """Zero-shot accuracy where the data set has classes, retrieval where it has captions."""
        image_model = two_towers.image_embeddings(self.model)
        text_model = two_towers.text_embeddings(self.model)
        if self.source.text_feature is not None:
            return RetrievalEvaluator(
                self.strategy,
                image_model,
                text_model,
                self._test_data(self.captions),
                self.model.compute_dtype,
            )
        images = FeatureExtractor(
            self.strategy,
            lambda images: image_model(images, training=False),
            self._test_data(),
            self.model.compute_dtype,
        )
        embed = tf.function(
            lambda tokens: self.strategy.run(text_model, args=(tokens,), kwargs={"training": False})
        )

        def embed_texts(tokens):
            return self.strategy.experimental_local_results(embed(tokens))[0]

        return ZeroShotEvaluator(images, embed_texts, self.captions.class_tokens)

    def _feature_evaluator(self, name: str, options: dict[str, Any]):
        config = self.config
        types = {"few_shot": FewShotEvaluator, "knn": KNNEvaluator}
        kind = options.pop("type", None)
        if kind not in types:
            raise unknown_name(f"config.evaluators.{name}.type", kind, types)
        source = self.source
        if "dataset" in options:
            source = data.get_source(options.pop("dataset"), data_dir=config.tfds_data_dir)
        ops = options.pop("ops", config.pp.test_ops) or presets.finetune_eval(config.pp.crop)
        if self.captions is None:
            representation = representation_model(self.model)
        else:
            representation = two_towers.image_embeddings(self.model)
        extractors = [
            FeatureExtractor(
                self.strategy,
                lambda images: representation(images, training=False),
                lambda context, split=split: data.eval_dataset(
                    source, split, ops, config.batch_eval, input_context=context
                ),
                self.model.compute_dtype,
            )
            for split in (
                options.pop("train", config.pp.train),
                options.pop("test", config.pp.test),
            )
        ]
        try:
            return types[kind](*extractors, source.num_classes, name=name, **options)
        except TypeError as error:
            raise ValueError(f"config.evaluators.{name}: {error}.") from error

    def _evaluate(self) -> Iterator[tuple[str, float]]:
        """All evaluators, on the averaged weights if there are any."""
        started = time.monotonic()
        self._use_ema()
        try:
            for evaluator in self.evaluators:
                yield from evaluator.run()
        finally:
            self._use_ema()
        yield "eval_seconds", time.monotonic() - started

    def _use_ema(self) -> None:
        """Exchanges weights and averages."""
        if self.train_step.ema:
            self._swap_ema()
