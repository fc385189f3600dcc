"""Predictions as pictures."""

from __future__ import annotations

from typing import Any

from mlprun.data.audio.mel import Frames, mel
from mlprun.formatting import truncate
from mlprun.pictures.figures import new_panels
from mlprun.predict.answers import headline, most_likely
from mlprun.predict.predict import Answer, Prediction

TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000)  # Hz


def draw(answer: Answer, prediction: Prediction) -> Any:
    """The input as the model saw it, and bars of the probabilities or scores; a matplotlib Figure.

    The bar of the predicted class is blue, or green where it is known to be right and red where it is wrong.
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
    figure.suptitle(headline(answer, prediction), fontsize=11)
    if prediction.predicted is None:
        return figure
    shown = most_likely(answer, prediction)[::-1]
    predicted = answer.class_names[prediction.predicted]
    verdict = "tab:blue"
    if prediction.target is not None:
        verdict = "tab:green" if prediction.target == prediction.predicted else "tab:red"
    names = [truncate(name, 18) for name, _ in shown]
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
