"""mlprun turns one command line into a recorded, reproducible PyTorch training run."""

__version__ = "0.1.0"
