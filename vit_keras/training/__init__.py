"""The training engine: the same step on a laptop, on several GPUs, on a TPU host and on a pod."""

from vit_keras.training.experiment import TrainResult, train
from vit_keras.training.preemption import EXIT_CODE, Preempted, WorkerLost
from vit_keras.training.saving import CheckpointError
from vit_keras.training.schedules import Schedule
from vit_keras.training.strategy import get_strategy
from vit_keras.training.train_loop import TrainingDivergedError, TrainLoop
from vit_keras.training.train_step import TrainStep

__all__ = [
    "EXIT_CODE",
    "CheckpointError",
    "Preempted",
    "Schedule",
    "TrainLoop",
    "TrainResult",
    "TrainStep",
    "TrainingDivergedError",
    "WorkerLost",
    "get_strategy",
    "train",
]
