"""Measurements behind `k4 bench`: correctness first, then time, with device, versions and commit in every row."""
