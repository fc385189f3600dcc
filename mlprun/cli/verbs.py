"""The verbs, and words that are neither a verb nor an override. Imports no Hydra, which takes 0.2 s of CPU."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

from mlprun.errors import ConfigError, close_matches

VERBS = {
    "new": "begin a project of your own: a model, a data set, an experiment and a test",
    "inspect": "show data, model, schedule, devices and speed without training",
    "eval": "evaluate a finished run's best checkpoint on the test split",
    "resume": "resume a stopped run or sweep, or extend a finished run",
    "reproduce": "repeat a run from its record in a new directory, and compare bit by bit",
    "runs": "table and leaderboard of the runs in a folder",
    "prune": "remove failed, interrupted, killed and debug runs, after asking",
    "show": "show a run, or how the configs, code, environments and results of two differ",
    "predict": "predict with the best checkpoint: images, rows of numbers, text, audio or test examples",
    "export": "export the model of the best checkpoint as ONNX, or as a .pt2 of torch.export",
    "plot": "plot the curves of runs, or the trials of a sweep",
    "help": "explain a group, a choice, a key or a verb",
    "experiments": "list the ready-made experiments, those of a topic, or show one",
}

ELSEWHERE = {"experiments": "mlprun.course.experiments"}  # verbs outside of mlprun/cli
CALLS_STORED_TARGETS = ("eval", "predict", "export", "resume", "reproduce")

_NO_VERB = "training needs no verb: mlprun model=mlp epochs=5"
NO_VERBS = {"train": _NO_VERB, "run": _NO_VERB, "fit": _NO_VERB}


def parser_of(verb: str) -> tuple[Any, argparse.ArgumentParser]:
    """The module of a verb, which has `add_arguments` and `run`, and its parser."""
    module = importlib.import_module(ELSEWHERE.get(verb, f"mlprun.cli.{verb}"))
    text = getattr(module, "HELP", VERBS[verb])
    parser = argparse.ArgumentParser(f"mlprun {verb}", description=text, allow_abbrev=False)
    module.add_arguments(parser)
    if verb in CALLS_STORED_TARGETS:
        help_ = "let this run's config import and call code from anywhere (only for runs you trust)"
        parser.add_argument("--trust", action="store_true", help=help_)
    return module, parser


def check_words(words: list[str]) -> None:
    """Raise ConfigError for a word that is not an override."""
    for word in words:
        if "=" not in word and not word.startswith("~"):
            close = close_matches(word, VERBS)
            remedy = "write key=value without spaces, or quote it: 'model.hidden=[128, 64]'; see mlprun --help"
            if word in NO_VERBS:
                remedy = NO_VERBS[word]
            elif word in VERBS:
                remedy = f"the verb comes first: mlprun {word} …"
            elif close:
                remedy = f"did you mean 'mlprun {close[0]}'?"
            raise ConfigError(word, ConfigError.MISSING, "is neither a verb nor key=value", remedy)
