"""`mlprun predict`: predictions of the best checkpoint."""

from __future__ import annotations

import argparse
import errno
import itertools
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from mlprun.cli.last import add_checkpoint, add_run_dir
from mlprun.config.stored import take_root
from mlprun.errors import ConfigError, RunError
from mlprun.files import make_folder, naming_path
from mlprun.formatting import json_line
from mlprun.pictures.figures import save
from mlprun.predict.answers import as_json, as_lines, draw
from mlprun.predict.generate import complete, completes, unused_options
from mlprun.predict.predict import Answer, predict, text_of
from mlprun.runs.directory import RunDirectory
from mlprun.terminal import print_line

MOST_PICTURES = 100  # each takes a tenth of a second
MOST_EXAMPLES = 10_000_000  # of a range: a typo shall not fill the memory
_NOT_WRITABLE = (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT)  # as a colleague's run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    help_ = "an image; a .wav; numbers, 5.1,3.5,1.4,0.2, or a .csv; 'a text' or a .txt; a folder of such files"
    parser.add_argument("inputs", metavar="INPUT", nargs="*", help=help_)
    parser.add_argument(
        "--index",
        nargs="+",
        metavar="N",
        help="test examples, from 0: 3 7, 0-68 or all; data.root=FOLDER: where the data lie now",
    )
    add_checkpoint(parser)
    parser.add_argument("--changed-data", action="store_true", help="use test examples even if the data has changed")
    parser.add_argument("--invert", action="store_true", help="invert the images")
    parser.add_argument("--range", metavar="LOW,HIGH", help="values of black and white, if the data set has none")
    parser.add_argument("--length", type=int, help="tokens that a language model generates (default: 100)")
    parser.add_argument("--temperature", type=float, help="sampling temperature; 0 is greedy (default: 1)")
    parser.add_argument("--seed", type=int, help="seed for sampling (default: 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def escaped(arguments: Sequence[str]) -> list[str]:
    """The arguments as argparse reads them: a space before numbers such as -1.5,2 and -5e-1, and data.root=… first."""
    is_number = re.compile(r"-(\d|\.\d|inf|nan)", re.IGNORECASE).match
    words = [f" {word}" if is_number(word) else word for word in arguments]
    roots = [word for word in words if word.startswith(("data.root=", "data.path="))] if "--index" in words else []
    for root in roots:  # else argparse takes it for an index
        words.remove(root)
        words.insert(words.index("--index"), root)
    return words


def run(options: argparse.Namespace, command: str) -> int:
    inputs, indices = (
        [word.strip() if word[:2] == " -" else word for word in options.inputs],
        _parts(options.index or []),
    )
    root, inputs = take_root(inputs) if indices else (None, inputs)
    if bool(inputs) == bool(indices):
        problem = "takes inputs or test examples, not both" if inputs else "has nothing to predict"
        remedy = "name images, audio, text, rows of numbers (5.1,3.5,1.4,0.2) or a .csv; or test examples: --index 0 7"
        raise ConfigError("predict", ConfigError.MISSING, problem, remedy)

    data = RunDirectory(options.run).read().get("config", {}).get("data", {})
    if options.changed_data and not indices:
        raise ConfigError("--changed-data", ConfigError.MISSING, "is for test examples", "leave it out, or add --index")
    _refuse_options(options, data)
    if completes(data):
        return _complete(options, inputs)
    value_range = None
    if options.range is not None:
        from mlprun.predict.inputs import parse_range

        value_range = parse_range(options.range)
    answer = predict(
        options.run, inputs, indices,
        trust=options.trust, changed_data=options.changed_data, invert=options.invert, value_range=value_range,
        root=root, checkpoint=options.checkpoint,
    )  # fmt: skip
    draws = not options.json and len(answer.predictions) <= MOST_PICTURES
    if not (draws or options.json) and answer.predictions[0].pixels is not None:
        print_line(f"no pictures of more than {MOST_PICTURES} predictions", sys.stderr)
    pictures: list[Path | None] = [None] * len(answer.predictions)
    if draws:
        try:
            pictures = _save_pictures(answer, options.run / "predictions")
        except RunError as error:
            if not (isinstance(error.__cause__, OSError) and error.__cause__.errno in _NOT_WRITABLE):
                raise
            print_line(f"warning: no pictures: {error}", sys.stderr)
    if not options.json and answer.class_names and answer.predictions[0].probabilities is None:
        print_line(f"the outputs are scores, not probabilities: the loss is {answer.loss}")
    for prediction, picture in zip(answer.predictions, pictures, strict=True):
        for note in prediction.notes:
            print_line(note, sys.stderr)
        lines = [as_json(answer, prediction)] if options.json else as_lines(answer, prediction, picture)
        for line in lines:
            print_line(line)
    return 0


def _parts(words: Sequence[str]) -> list[range] | Literal["all"]:
    """The test examples that `3 0-68` means; `all` is known once the data is read."""
    if [*words] == ["all"]:
        return "all"
    parts = []
    for word in words:
        match = re.fullmatch(r"(-?[0-9]+)(?:-([0-9]+))?", word.strip())
        if match is None:
            problem = "is neither a number nor a range"
            raise ConfigError("--index", word, problem, "write --index 3 7, --index 0-68 or, alone, --index all")
        first = int(match[1])
        part = range(first, int(match[2] or first) + 1)
        if not part:
            raise ConfigError("--index", word, "ends before it begins", f"write --index {match[2]}-{match[1]}")
        if part.stop - part.start > MOST_EXAMPLES:
            raise ConfigError("--index", word, f"is more than {MOST_EXAMPLES:,} examples", "write --index all")
        parts.append(part)
    return parts


def _refuse_options(options: argparse.Namespace, data: dict[str, Any]) -> None:
    """Raise ConfigError for an option that would have no effect with such data."""
    for name, users in unused_options(data).items():
        value = getattr(options, name)
        if value is not None and value is not False:
            problem = f"is for {users}; this run is {data.get('name')}, data.task={data.get('task')}"
            raise ConfigError(f"--{name}", value, problem, f"leave out --{name}")


def _complete(options: argparse.Namespace, inputs: list[str]) -> int:
    """Continue texts, or fill in their masked tokens."""
    if not inputs:
        raise ConfigError("--index", options.index, "test examples have one class per token", "give texts: 'The next'")
    completions = complete(
        options.run, [text_of(word) for word in inputs],
        length=100 if options.length is None else options.length,
        temperature=1.0 if options.temperature is None else options.temperature,
        seed=options.seed or 0, trust=options.trust, checkpoint=options.checkpoint,
    )  # fmt: skip
    for each in completions:
        for note in each.notes:
            print_line(note, sys.stderr)
        if options.json:
            known = {"continued": each.continued} if each.continued is not None else {"filled": each.filled}
            print_line(json_line({"input": each.text} | known))
        elif each.continued is not None:
            print_line(f"{each.text}{each.continued}")
        else:
            print_line(each.text)
            for number, guesses in enumerate(each.filled, 1):
                label = f"[MASK] {number}" if len(each.filled) > 1 else "[MASK]"
                print_line(f"  {label}  " + "  ".join(f"{token} {chance:.4f}" for token, chance in guesses))
    return 0


def _save_pictures(answer: Answer, folder: Path) -> list[Path | None]:
    """Save a picture of each image or sound: `NAME.png`, or `NAME_2.png` for a second one of that name."""
    files: list[Path | None] = []
    if any(prediction.pixels is not None for prediction in answer.predictions):
        with naming_path(folder):
            make_folder(folder)
    for prediction in answer.predictions:
        if prediction.pixels is None:
            files.append(None)
            continue
        stem = Path(prediction.name.replace(" ", "_")).stem
        names = itertools.chain([stem], (f"{stem}_{number}" for number in itertools.count(2)))
        file = next(folder / f"{name}.png" for name in names if folder / f"{name}.png" not in files)
        files.append(save(draw(answer, prediction), file))
    return files
