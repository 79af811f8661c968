"""Evaluation of a model that wasn't just trained."""

from __future__ import annotations

from collections.abc import Callable

import keras
import ml_collections

from vit_keras import data
from vit_keras.data import presets
from vit_keras.training import config_defaults, losses
from vit_keras.training.build_model import is_two_towers
from vit_keras.training.evaluators.classification import ClassificationEvaluator
from vit_keras.training.strategy import get_strategy


def evaluate(
    config: ml_collections.ConfigDict, make_model: Callable[[], keras.Model]
) -> dict[str, float]:
    """Accuracy and loss over exactly every example of `config.pp.test`.

    Args:
      config: as for `train`; `dataset`, `pp.test`, `pp.test_ops`, `batch_eval`, `loss`,
        `tfds_data_dir`, `tfds_manual_dir`, `strategy`, `tpu` and `num_devices` are used.
      make_model: called in the strategy's scope; images are resized to its model's input.

    Raises:
      ValueError: the model's classes aren't as many as the data set's.
    """
    config = config_defaults.complete(config)
    strategy = get_strategy(config.strategy, tpu=config.tpu, num_devices=config.num_devices)
    source = data.get_source(
        config.dataset,
        data_dir=config.tfds_data_dir,
        manual_dir=config.tfds_manual_dir,
        on_bad_image=config.on_bad_image,
    )
    with strategy.scope():
        model = make_model()
    if is_two_towers(model):
        raise ValueError(
            "The model is two towers, which give embeddings; expected a classifier, such as "
            "vit_keras.two_towers.zero_shot_classifier makes of them."
        )
    if model.output_shape[-1] != source.num_classes:
        raise ValueError(
            f"The model has {model.output_shape[-1]} outputs; expected the {source.num_classes} "
            f"classes of {config.dataset}."
        )
    size = tuple(model.input_shape[1:3])
    preprocess = config.pp.test_ops or presets.finetune_eval(size)
    evaluator = ClassificationEvaluator(
        strategy,
        model,
        lambda context: data.eval_dataset(
            source, config.pp.test, preprocess, config.batch_eval, input_context=context
        ),
        loss=losses.get_loss(config.loss),
    )
    with data.told_plainly():
        metrics = dict(evaluator.run())
    source.bad_images.report()
    return metrics
