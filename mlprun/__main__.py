"""`python -m mlprun` is the program `mlprun`; torchrun needs a module."""

from mlprun.cli import main

if __name__ == "__main__":
    main()
