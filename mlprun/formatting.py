"""Formats values for messages, tables and summaries."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence

# Control characters, which a terminal would obey; marks that change the direction of a text; halves of a character.
_UNSHOWN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, keep: str = "\n\t") -> str:
    """`text` with control characters as escapes, such as `\\x1b`; those in `keep` are kept."""
    return _UNSHOWN.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def csv_cell(value: object) -> object:
    """A cell that no spreadsheet takes for a formula: a text that looks like one begins with an apostrophe."""
    if not isinstance(value, str):
        return value
    text = printable(value, keep="")
    try:
        float(text)
    except ValueError:
        return f"'{text}" if value.lstrip(" ")[:1] in [*"=+-@\t\r＝＋－＠"] else text
    return text


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


def json_line(value: object) -> str:
    """JSON on one line: null for what is not finite, paths as texts."""
    return json.dumps(_as_json(value), allow_nan=False, default=str)


def _as_json(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def pluralize(number: int, noun: str) -> str:
    """`1 thread`, `1,294 threads`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def first_few(names: Sequence[str], most: int) -> str:
    """`a, b, c and 58 more`."""
    return ", ".join(printable(name, keep="") for name in names[:most]) + f" and {len(names) - most:,} more" * (
        len(names) > most
    )


def format_metric(value: float) -> str:
    """Four decimals; four significant digits from 1e5 on."""
    return f"{value:.4f}" if not abs(value) >= 1e5 else f"{value:.4g}"


def format_share(share: float) -> str:
    """`67 %`; one significant digit below one percent, `0.4 %`."""
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.1g} %"


def format_duration(seconds: float) -> str:
    """`850 us`, `5.5 ms`, `40 s`, `1.7 min`, `12 min`, `3.5 h`, `5 days`."""
    if seconds < 1:
        return f"{seconds * 1e6:.0f} us" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"
    if seconds < 90:
        return f"{seconds:.3g} s"
    if seconds < 5400:
        return f"{seconds / 60:.2g} min"
    return f"{seconds / 3600:.1f} h" if seconds <= 100 * 3600 else f"{seconds / 86400:,.0f} days"


def format_bytes(number: float) -> str:
    """`12 KiB`, `3.4 MiB`, `1.2 GiB`."""
    units = ("KiB", "MiB", "GiB", "TiB")
    power = next((i for i in range(len(units)) if number < 1000 * 1024 ** (i + 1)), len(units) - 1)
    value = number / 1024 ** (power + 1)
    return f"{value:.1f} {units[power]}" if value < 10 and power else f"{value:,.0f} {units[power]}"


def truncate(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` cut at the end to `width` characters."""
    return text if len(text) <= width else text[: width - len(ellipsis)].rstrip() + ellipsis


def one_line(text: str, width: int = 60) -> str:
    """The beginning of a text on one line."""
    return truncate(" ".join(text.split()), width)


def truncate_middle(text: str, width: int) -> str:
    """`text` cut in the middle to `width` characters."""
    tail = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
