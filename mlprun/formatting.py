"""Values in words, as messages, tables and summaries show them."""

from __future__ import annotations


def pluralize(number: int, noun: str) -> str:
    """`1 thread`, `1,294 threads`."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def truncate(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` without its end, where it is longer than `width` characters."""
    return text if len(text) <= width else text[: width - len(ellipsis)].rstrip() + ellipsis


def truncate_middle(text: str, width: int) -> str:
    """`text` without its middle, where it is longer than `width` characters."""
    tail = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
