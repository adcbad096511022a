"""Training, prediction and checkpoints. Runs with torch, numpy, pandas, pyarrow, numba and safetensors alone."""

from k4_pipeline.training.checkpoint import load_checkpoint as load_checkpoint, save_checkpoint as save_checkpoint
from k4_pipeline.training.loop import (
    TrainingDivergedError as TrainingDivergedError,
    TrainResult as TrainResult,
    train as train,
)
from k4_pipeline.training.predict import (
    predict_logits as predict_logits,
    predict_probabilities as predict_probabilities,
)
