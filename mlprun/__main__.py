"""`python -m mlprun`, for torchrun."""

import sys

if not sys.flags.safe_path and __file__.startswith(sys.path[0].rstrip("/") + "/mlprun/"):
    sys.path.append(sys.path.pop(0))  # a checkout that is not installed: at the end it hides no library
elif not sys.flags.safe_path:
    del sys.path[0]  # `-m` puts the current folder first, whose pynvml.py would be imported by torch

from mlprun.cli.main import program

if __name__ == "__main__":
    program()
