"""mlprun: one line becomes one reproducible PyTorch experiment, one more flag a whole sweep."""

__version__ = "0.1.0"
