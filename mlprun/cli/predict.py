"""`mlprun predict`: what is asked, and how it is answered."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlprun.errors import ConfigError
from mlprun.pictures.figures import save
from mlprun.predict.answers import as_json, as_lines, draw
from mlprun.predict.generate import complete
from mlprun.predict.predict import Answer, predict, text_of
from mlprun.runs.directory import RunDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument(
        "inputs",
        metavar="INPUT",
        nargs="*",
        help="an image; a .wav; numbers, 5.1,3.5,1.4,0.2, or a .csv; 'a text' or a .txt",
    )
    parser.add_argument("--index", type=int, nargs="+", metavar="N", help="examples of the test part, from 0")
    parser.add_argument("--invert", action="store_true", help="exchange black and white of the images")
    parser.add_argument("--range", metavar="LOW,HIGH", help="black and white, for a data set that does not say")
    parser.add_argument("--length", type=int, help="tokens that a language model adds to a text; 100")
    parser.add_argument(
        "--temperature", type=float, help="1 draws by its probabilities, 0 takes the likeliest token; 1"
    )
    parser.add_argument("--seed", type=int, help="of those draws; 0")
    parser.add_argument("--json", action="store_true", help="one object a line")


def escaped(arguments: Sequence[str]) -> list[str]:
    """The words for argparse, which takes -1.5,2 for an option, but not what begins with a space."""
    return [f" {word}" if re.match(r"-[\d.].*,", word) else word for word in arguments]


def run(options: argparse.Namespace, command: str) -> int:
    """Predict, print and draw; the exit status."""
    inputs, indices = [word.strip() if word[:2] == " -" else word for word in options.inputs], options.index or []
    if bool(inputs) == bool(indices):
        problem = "takes files or examples of the test part, not both" if inputs else "has nothing to predict"
        raise ConfigError(
            "predict", ConfigError.MISSING, problem,
            "name images, sounds, texts, rows of numbers (5.1,3.5,1.4,0.2) or a .csv; or --index 0 7 of the test part",
        )  # fmt: skip

    data = RunDirectory(options.run).read().get("config", {}).get("data", {})
    _refuse_options(options, data)
    if data.get("task") in ("token_classification", "language_modeling"):
        return _complete(options, inputs)
    value_range = None
    if options.range is not None:
        from mlprun.predict.inputs import parse_range

        value_range = parse_range(options.range)
    answer = predict(options.run, inputs, indices, trust=options.trust, invert=options.invert, value_range=value_range)
    pictures = _save_pictures(answer, options.run / "predictions")
    if not options.json and answer.class_names and answer.predictions[0].probabilities is None:
        print(f"the outputs are scores, not probabilities: the loss is {answer.loss}")
    for prediction, picture in zip(answer.predictions, pictures, strict=True):
        for note in prediction.notes:
            print(note, file=sys.stderr)
        lines = [as_json(answer, prediction, picture)] if options.json else as_lines(answer, prediction, picture)
        for line in lines:
            print(line)
    return 0


def _refuse_options(options: argparse.Namespace, data: dict[str, Any]) -> None:
    """ConfigError for an option that would have no effect on a run of such data."""
    task = data.get("task")
    pictures = len(data.get("input_shape") or []) == 3 and data.get("audio") is None
    for names, fits, of in (
        (("length", "temperature", "seed"), task == "language_modeling", "a language model, which goes on with a text"),
        (("range", "invert"), pictures, "images"),
    ):
        for name in names:
            value = getattr(options, name)
            if value is not None and value is not False and not fits:
                problem = f"is for {of}; this run is {data.get('name')}, data.task={task}"
                raise ConfigError(f"--{name}", value, problem, f"leave out --{name}")


def _complete(options: argparse.Namespace, inputs: list[str]) -> int:
    """Texts that go on, or whose hidden words are filled in."""
    if not inputs:
        raise ConfigError(
            "--index", options.index, "examples of the test part have a class a token", "give texts: 'The next'"
        )
    completions = complete(
        options.run, [text_of(word) for word in inputs],
        length=100 if options.length is None else options.length,
        temperature=1.0 if options.temperature is None else options.temperature,
        seed=options.seed or 0, trust=options.trust,
    )  # fmt: skip
    for each in completions:
        for note in each.notes:
            print(note, file=sys.stderr)
        if options.json:
            known = {"continued": each.continued} if each.continued is not None else {"filled": each.filled}
            print(json.dumps({"input": each.text} | known))
        elif each.continued is not None:
            print(f"{each.text}{each.continued}")
        else:
            print(each.text)
            for number, guesses in enumerate(each.filled, 1):
                label = f"[MASK] {number}" if len(each.filled) > 1 else "[MASK]"
                print(f"  {label}  " + "  ".join(f"{token} {chance:.4f}" for token, chance in guesses))
    return 0


def _save_pictures(answer: Answer, folder: Path) -> list[Path | None]:
    """A picture for each image or sound, `NAME.png` in the folder, and `NAME_2.png` for a second of that name.

    Raises:
        RunError: it cannot be written.
    """
    taken: set[Path] = set()
    files: list[Path | None] = []
    for prediction in answer.predictions:
        if prediction.pixels is None:
            files.append(None)
            continue
        stem, number = Path(prediction.name.replace(" ", "_")).stem, 1
        file = folder / f"{stem}.png"
        while file in taken:
            number += 1
            file = folder / f"{stem}_{number}.png"
        taken.add(file)
        files.append(save(draw(answer, prediction), file))
    return files
