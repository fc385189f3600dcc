"""Predictions as lines of text, JSON and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlprun.data.audio.mel import Frames, mel
from mlprun.formatting import json_line, printable, truncate
from mlprun.pictures.figures import new_panels
from mlprun.pictures.labels import figure_text
from mlprun.predict.predict import Answer, Prediction
from mlprun.text_table import render

TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz
ALL_UP_TO, TOP = 10, 5  # classes shown: all of up to ten, the first five of more


def as_json(answer: Answer, prediction: Prediction) -> str:
    """All of a prediction as one JSON object; `class` is the index of the class."""
    fields: dict[str, Any] = {"input": prediction.name}
    if prediction.predicted is None:
        fields["values"] = prediction.outputs
        fields |= {} if prediction.target is None else {"true": prediction.target}
    else:
        names = answer.class_names
        fields |= {"predicted": names[prediction.predicted], "class": prediction.predicted}
        if isinstance(prediction.target, int):
            fields["true"] = names[prediction.target]
        if prediction.probabilities is not None:
            fields["probabilities"] = dict(zip(names, prediction.probabilities, strict=True))
        else:
            fields["scores"] = dict(_scores(answer, prediction))
    return json_line(fields)


def as_lines(answer: Answer, prediction: Prediction, picture: Path | None) -> list[str]:
    """The prediction on one line; below it the classes, most likely first, and the path of the picture."""
    classes = [] if prediction.predicted is None else most_likely(answer, prediction)
    lines = render([(name, f"{value:.4f}") for name, value in classes], "<>", indent="  ")
    return [headline(answer, prediction), *lines, *([] if picture is None else [f"  picture  {picture}"])]


def headline(answer: Answer, prediction: Prediction) -> str:
    if prediction.predicted is None:
        predicted = "  ".join(f"{value:.6g}" for value in prediction.outputs)
        target = prediction.target if isinstance(prediction.target, list) else [prediction.target]
        true = "  ".join(f"{value:.6g}" for value in target if value is not None)
    else:
        predicted = answer.class_names[prediction.predicted]
        true = answer.class_names[prediction.target] if isinstance(prediction.target, int) else ""
        true += ", wrong" * bool(true and prediction.target != prediction.predicted)
    return printable(f"{prediction.name}: {predicted}" + f"  (true: {true})" * bool(true), keep="")


def most_likely(answer: Answer, prediction: Prediction) -> list[tuple[str, float]]:
    """(class, probability or score), highest first: all of a few, the first of many."""
    if prediction.probabilities is None:
        values = _scores(answer, prediction)
    else:
        values = list(zip(answer.class_names, prediction.probabilities, strict=True))
    values.sort(key=lambda pair: -pair[1])
    return values if len(values) <= ALL_UP_TO else values[:TOP]


def _scores(answer: Answer, prediction: Prediction) -> list[tuple[str, float]]:
    """Of each class; a single output is the score of the second of two."""
    return list(zip(answer.class_names[-len(prediction.outputs) :], prediction.outputs, strict=True))


def draw(answer: Answer, prediction: Prediction) -> Any:
    """The input as the model sees it, and a bar chart of the probabilities or scores.

    The bar of the predicted class is blue; green if it is known to be right, red if wrong.
    """
    assert prediction.pixels is not None
    is_class = prediction.predicted is not None
    figure, panels = new_panels(1, 2 if is_class else 1, 7.2 if is_class else 4.2, 3.6)
    if answer.frames is not None:
        _draw_sound(panels[0], prediction.pixels[0], answer.frames)
    else:
        pixels = prediction.pixels.transpose(1, 2, 0)
        panels[0].imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        panels[0].set_axis_off()
    figure.suptitle(figure_text(headline(answer, prediction)), fontsize=11)
    if prediction.predicted is None:
        return figure
    shown = most_likely(answer, prediction)[::-1]
    predicted = answer.class_names[prediction.predicted]
    verdict = "tab:blue"
    if prediction.target is not None:
        verdict = "tab:green" if prediction.target == prediction.predicted else "tab:red"
    names = [figure_text(truncate(name, 18)) for name, _ in shown]
    colours = [verdict if name == predicted else "lightsteelblue" for name, _ in shown]
    bars = panels[1].barh(range(len(shown)), [value for _, value in shown], color=colours)
    panels[1].bar_label(bars, fmt="%.3f", padding=3, fontsize=8)
    panels[1].set_yticks(range(len(shown)), names, fontsize=9)
    if prediction.probabilities is not None:
        panels[1].set(xlim=(0, 1.15), xticks=[0, 0.25, 0.5, 0.75, 1], xlabel="probability")
    else:
        panels[1].margins(x=0.2)
        panels[1].set_xlabel("score, no probability")
    panels[1].set_ylabel("class")
    return figure


def _draw_sound(axes: Any, decibels: Any, frames: Frames) -> None:
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
    edges = [mel(edge) for edge in frames.edges()]  # evenly spaced: edge b is the middle of band b, from 0
    marks = [hertz for hertz in TICKS if frames.f_min <= hertz <= frames.highest]
    axes.set_yticks([(mel(hertz) - edges[0]) / (edges[1] - edges[0]) for hertz in marks], [f"{h}" for h in marks])
    axes.set(ylim=(0.5, num_mels + 0.5), xlabel="time (s)", ylabel="frequency (Hz)")
