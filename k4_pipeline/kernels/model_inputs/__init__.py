"""Batches of model inputs from the panel on a CUDA device; the formula is that of sequences/model_inputs.py."""
