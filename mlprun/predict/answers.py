"""Predictions as lines of text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlprun.predict.predict import Answer, Prediction
from mlprun.text_table import render

ALL_UP_TO, TOP = 10, 5  # classes: up to so many all are shown, else the first five


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
    classes = [] if prediction.predicted is None else most_likely(answer, prediction)
    lines = render([(name, f"{value:.4f}") for name, value in classes], "<>", indent="  ")
    return [headline(answer, prediction), *lines, *([] if picture is None else [f"  picture  {picture}"])]


def headline(answer: Answer, prediction: Prediction) -> str:
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


def most_likely(answer: Answer, prediction: Prediction) -> list[tuple[str, float]]:
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
