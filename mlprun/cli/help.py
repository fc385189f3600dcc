"""`mlprun help`: what a group, a choice, a key or a verb means."""

from __future__ import annotations

import argparse

from mlprun.cli.verbs import VERBS, parser_of
from mlprun.terminal import print_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    help_ = "a group (optim), a choice (model=mlp), a key (trainer.accumulate) or a verb; none: as mlprun --help"
    parser.add_argument("words", metavar="NAME", nargs="*", help=help_)
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="your folder of YAML")
    parser.add_argument("--config-name", "-cn", metavar="NAME", default="config", help="the primary config")


def run(options: argparse.Namespace, command: str) -> int:
    flags = ["--config-name", options.config_name, *(["--config-dir", options.config_dir] * bool(options.config_dir))]
    if not options.words:
        from mlprun.cli.train import train

        return train(["--help", *flags])
    from mlprun.cli.line import typed_line
    from mlprun.config.explain import Explainer

    line = typed_line([*(word for word in options.words if "=" in word), *flags], command)
    explainer = Explainer(line.composer, line.words, [*VERBS])
    asked = [
        word for word in options.words if "=" not in word
    ] or options.words  # beside a key, a choice is its context
    # all, before a misspelt one leaves half an answer
    answers = [_of_verb(word) if word in VERBS else explainer.lines(word) for word in asked]
    for number, answer in enumerate(answers):
        is_long = len(answer) > 1 or len(answers[number - 1]) > 1
        for text in [*([""] if number and is_long else []), *answer]:
            print_line(text)
    return 0


def _of_verb(verb: str) -> list[str]:
    return parser_of(verb)[1].format_help().rstrip().splitlines()
