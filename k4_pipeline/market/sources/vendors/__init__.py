"""Vendors of daily bars asked over HTTP: one file and one class each; secrets come from the environment only."""
