"""Formats values for messages, tables and summaries."""

from __future__ import annotations

from collections.abc import Sequence


def as_typed(value: object) -> str:
    """`value` on one line, as typed after `KEY=`: `null`, `true`, `[1,28,28]`, `{width:8}`, plain text."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{as_typed(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(as_typed, value)) + "]"
    return " ".join(str(value).splitlines())


def pluralize(number: int, noun: str) -> str:
    """`1 thread`, `1,294 threads`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_few(names: Sequence[str], most: int) -> str:
    """`a, b, c and 58 more`."""
    return ", ".join(names[:most]) + f" and {len(names) - most:,} more" * (len(names) > most)


def format_metric(value: float) -> str:
    """Four decimals; four significant digits from 1e5 on."""
    return f"{value:.4f}" if not abs(value) >= 1e5 else f"{value:.4g}"


def format_duration(seconds: float) -> str:
    """`850 us`, `5.5 ms`, `40 s`, `1.7 min`, `12 min`, `3.5 h`."""
    if seconds < 1:
        return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.2g} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def truncate(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` cut at the end to `width` characters."""
    return text if len(text) <= width else text[: width - len(ellipsis)].rstrip() + ellipsis


def truncate_middle(text: str, width: int) -> str:
    """`text` cut in the middle to `width` characters."""
    tail = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
