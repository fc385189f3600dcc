"""How numbers, dates and truth values are written in a table."""

from __future__ import annotations

import re

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
NUMBER = re.compile(_NUMBER, re.ASCII)
WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
LEADING_ZERO = re.compile(r"0\d+", re.ASCII)
DECIMAL_COMMA = re.compile(r"[+-]?(?:\d+,\d*|,\d+)(?:[eE][+-]?\d+)?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?\d{1,3}(?:[,. '’\u202f\xa0]\d{3})+(?:[.,]\d*)?", re.ASCII)
WITH_UNIT = re.compile(rf"([$€£¥]?)\s?{_NUMBER}\s?([^\d\s.,;:+-][^\d\s]{{0,5}})?", re.ASCII)
_DAY = r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}"
_DAY += r"|\d{1,2}[ -][A-Za-z]{3,9}\.?[ -]\d{2,4}|[A-Za-z]{3,9}\.? \d{1,2},? \d{4}"
_TIME = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?"
DATE = re.compile(rf"(?:{_DAY})(?:[ T]{_TIME}(?:Z| ?[+-]\d{{2}}:?\d{{2}})?)?|{_TIME}", re.ASCII)

# Texts that mean a missing value: those of pandas. In a column of numbers, also `MARKS`.
MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA"),
    *("NULL", "NaN", "None", "n/a", "nan", "null"),
)
MARKS = ("?", "-", "--", ".")
TRUE, FALSE = ("true", "yes", "t", "y"), ("false", "no", "f", "n")


def is_number(text: str) -> bool:
    return NUMBER.fullmatch(text) is not None
