"""`python -m mlprun`, for torchrun."""

import sys

if not sys.path[0] or sys.path[0] == __import__("os").getcwd():
    # `-m` puts the current folder first, where a user's yaml.py would hide the library
    sys.path.append(sys.path.pop(0))

from mlprun.cli.main import program

if __name__ == "__main__":
    program()
