"""`mlprun experiments`: the ready experiments."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.course.experiments import chosen, listing, page, ready, users_own
from mlprun.text_table import render


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("words", metavar="TOPIC, NAME or word", nargs="*")
    parser.add_argument("--config-dir", "-cd", type=Path, metavar="DIR", help="list those of your own in DIR, too")
    parser.add_argument("--markdown", action="store_true", help="all of them as a page with what they measured")


def run(options: argparse.Namespace, command: str) -> int:
    """Print them; the exit status."""
    if options.markdown:
        print("\n".join(page(ready())))
        return 0
    words = " ".join(options.words)
    found = [*ready(), *(users_own(options.config_dir) if options.config_dir else [])]
    if exact := [each for each in found if each.name == words]:
        print(exact[0].file.read_text(encoding="utf-8", errors="replace").rstrip())
        print(f"\nfile    {exact[0].file}")
        return 0
    told = chosen(found, words)
    for line in listing(told):
        print(line)
    name = told[0].name if len(told) == 1 else "NAME"
    option = f" --config-dir {options.config_dir}" if options.config_dir else ""
    rows = [(f"mlprun experiments{option} {name}", "shows its file"), (f"mlprun{option} experiment={name}", "runs it")]
    print("", *render(rows, "<<"), sep="\n")
    return 0
