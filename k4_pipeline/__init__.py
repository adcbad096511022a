"""k4_pipeline: find the rare, explosive consolidation breakouts (K4) and prove that no future was used."""

import os

__version__ = "0.1.0"

# Between its parallel regions PyTorch's OpenMP (GNU's) lets threads spin for some milliseconds, on cores that the
# kernels' own threads want next: on two cores a training step takes 5% longer. This much is some ten microseconds.
# Read when OpenMP is loaded, which is after this; other programs' OpenMP does not know the name.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
