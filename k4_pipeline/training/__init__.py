"""Training, prediction and checkpoints. Runs with torch, numpy, pandas, pyarrow, numba and safetensors alone."""

from k4_pipeline.training.checkpoint import load_checkpoint, save_checkpoint
from k4_pipeline.training.loop import TrainingDivergedError, TrainResult, train
from k4_pipeline.training.predict import predict_logits, predict_probabilities

__all__ = [
    "TrainResult",
    "TrainingDivergedError",
    "load_checkpoint",
    "predict_logits",
    "predict_probabilities",
    "save_checkpoint",
    "train",
]
