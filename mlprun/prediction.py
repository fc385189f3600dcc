"""`mlprun predict`: what is asked, and how the answer is shown: lines, JSON and pictures."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlprun.completion import complete
from mlprun.data.mel import Frames, mel
from mlprun.errors import ConfigError, RunError
from mlprun.inference import Answer, Prediction, predict, text_of
from mlprun.metric_names import BY_TOKEN
from mlprun.runs.directory import RunDirectory

ALL_UP_TO, TOP = 10, 5  # classes: up to so many all are shown, else the first five
TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz


def command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """`mlprun predict RUN_DIR INPUT …`."""
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
    parser.add_argument(
        "--trust", action="store_true", help="call what the run's config names even if it is no library's own"
    )
    # argparse takes -1.5,2 for an option, but not what begins with a space
    words = [f" {word}" if re.match(r"-[\d.].*,", word) else word for word in arguments]
    options = parser.parse_intermixed_args(words)
    inputs, indices = [word.strip() if word[:2] == " -" else word for word in options.inputs], options.index or []
    if bool(inputs) == bool(indices):
        problem = "takes files or examples of the test part, not both" if inputs else "has nothing to predict"
        raise ConfigError(
            "predict", ConfigError.MISSING, problem,
            "name images, sounds, texts, rows of numbers (5.1,3.5,1.4,0.2) or a .csv; or --index 0 7 of the test part",
        )  # fmt: skip

    data = RunDirectory(options.run).read().get("config", {}).get("data", {})
    _refuse_options(options, data)
    if data.get("task") in BY_TOKEN:
        return _complete(options, inputs)
    value_range = None
    if options.range is not None:
        from mlprun.data.inputs import parse_range

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
    pictures = len(data.get("input_shape", [])) == 3 and data.get("audio") is None
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


def as_json(answer: Answer, prediction: Prediction, picture: Path | None) -> str:
    """All there is, on a line; `class` is the number of the class, and every class has its probability or score."""
    found: dict[str, Any] = {"input": prediction.name}
    if prediction.predicted is None:
        found["values"] = prediction.outputs
        found |= {} if prediction.target is None else {"true": prediction.target}
    else:
        names = answer.class_names
        found |= {"predicted": names[prediction.predicted], "class": prediction.predicted}
        if isinstance(prediction.target, int):
            found["true"] = names[prediction.target]
        if prediction.probabilities is not None:
            found["probabilities"] = dict(zip(names, prediction.probabilities, strict=True))
        else:
            found["scores"] = dict(_scores(answer, prediction))
    found |= {} if picture is None else {"picture": str(picture)}
    return json.dumps(found)


def as_lines(answer: Answer, prediction: Prediction, picture: Path | None) -> list[str]:
    """The prediction in a line, and below it the classes, likeliest first, and where the picture is."""
    rows = []
    if prediction.predicted is not None:
        shown = _shown(answer, prediction)
        width = max(len(name) for name, _ in shown)
        rows = [f"  {name.ljust(width)}  {value:8.4f}" for name, value in shown]
    rows += [] if picture is None else [f"  picture  {picture}"]
    return [_headline(answer, prediction), *rows]


def _headline(answer: Answer, prediction: Prediction) -> str:
    if prediction.predicted is None:
        said = "  ".join(f"{value:.6g}" for value in prediction.outputs)
        true = "" if prediction.target is None else "  ".join(f"{value:.6g}" for value in _values(prediction.target))
    else:
        said = answer.class_names[prediction.predicted]
        true = answer.class_names[prediction.target] if isinstance(prediction.target, int) else ""
        true += ", wrong" * bool(true and prediction.target != prediction.predicted)
    return f"{prediction.name}: {said}" + f"  (true: {true})" * bool(true)


def _values(target: int | list[float]) -> list[float]:
    return target if isinstance(target, list) else [target]


def _shown(answer: Answer, prediction: Prediction) -> list[tuple[str, float]]:
    """(class, probability or score), highest first: all of a few, the first of many."""
    if prediction.probabilities is None:
        found = _scores(answer, prediction)
    else:
        found = list(zip(answer.class_names, prediction.probabilities, strict=True))
    found.sort(key=lambda pair: -pair[1])
    return found if len(found) <= ALL_UP_TO else found[:TOP]


def _scores(answer: Answer, prediction: Prediction) -> list[tuple[str, float]]:
    """Of each class; a single output is the score of the second of two."""
    return list(zip(answer.class_names[-len(prediction.outputs) :], prediction.outputs, strict=True))


# ------------------------------------------------------------------------------------------------------ pictures


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
        encoded = io.BytesIO()
        draw(answer, prediction).savefig(encoded, format="png")
        try:
            folder.mkdir(exist_ok=True)
            file.write_bytes(encoded.getvalue())
        except OSError as error:
            raise RunError(f"{file} cannot be written: {error.strerror}") from error
        files.append(file)
    return files


def draw(answer: Answer, prediction: Prediction) -> Any:
    """The input as the model saw it, and bars of the probabilities or scores; a matplotlib Figure.

    The bar of the predicted class is blue, or green where it is known to be right and red where it is wrong.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    assert prediction.pixels is not None
    is_class = prediction.predicted is not None
    figure = Figure(figsize=(7.2 if is_class else 4.2, 3.6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2 if is_class else 1, squeeze=False)[0]
    if answer.frames is not None:
        _draw_sound(panels[0], prediction.pixels[0], answer.frames)
    else:
        pixels = prediction.pixels.transpose(1, 2, 0)
        panels[0].imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panels[0].set_axis_off()
    figure.suptitle(_headline(answer, prediction), fontsize=11)
    if prediction.predicted is None:
        return figure
    shown = _shown(answer, prediction)[::-1]
    predicted = answer.class_names[prediction.predicted]
    verdict = "tab:blue"
    if prediction.target is not None:
        verdict = "tab:green" if prediction.target == prediction.predicted else "tab:red"
    names = [name if len(name) <= 18 else f"{name[:17]}…" for name, _ in shown]
    colours = [verdict if name == predicted else "lightsteelblue" for name, _ in shown]
    bars = panels[1].barh(range(len(shown)), [value for _, value in shown], color=colours)
    panels[1].bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    panels[1].set_yticks(range(len(shown)), names, fontsize=9)
    if prediction.probabilities is not None:
        panels[1].set_xlim(0, 1.15)
        panels[1].set_xticks([0, 0.25, 0.5, 0.75, 1])
        panels[1].set_xlabel("probability")
    else:
        panels[1].margins(x=0.2)
        panels[1].set_xlabel("score, no probability")
    panels[1].set_ylabel("class")
    return figure


def _draw_sound(axes: Any, decibels: Any, frames: Frames) -> None:
    """A log-mel spectrogram, over seconds and Hz."""
    num_mels, num_frames = decibels.shape
    first = frames.window_ms / 2000  # the middle of the first window, seconds
    extent = (
        first - frames.hop / frames.sample_rate / 2,
        first + (num_frames - 0.5) * frames.hop / frames.sample_rate,
        0.5,
        num_mels + 0.5,
    )
    image = axes.imshow(decibels, extent=extent, aspect="auto", cmap="magma", interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, label="dB", pad=0.02)
    edges = [mel(edge) for edge in frames.edges()]  # evenly apart: the middle of band b is edge b, counted from 0
    marks = [hertz for hertz in TICKS if frames.f_min <= hertz <= frames.highest]
    axes.set_yticks([(mel(hertz) - edges[0]) / (edges[1] - edges[0]) for hertz in marks], [f"{h}" for h in marks])
    axes.set_ylim(0.5, num_mels + 0.5)
    axes.set_xlabel("time (s)")
    axes.set_ylabel("frequency (Hz)")
