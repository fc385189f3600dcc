"""Scripts without spaces between words, in which the tokens of `data.text.tokens=words` are whole clauses."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from statistics import fmean

from mlprun.formatting import first_few, format_share

log = logging.getLogger("mlprun")
MUCH = 0.1  # share of the words that deserves a warning
# Letters of such scripts, and how long a word is at most on average: texts may be cut into words already.
UNSPACED = {
    re.compile("[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"): 4,  # Chinese, Japanese
    re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]"): 9,  # Thai, Lao, Burmese, Khmer
}


def warn_of_clauses(words: Collection[str]) -> None:
    """Warn if many of the different words of a text are clauses."""
    for letters, usual in UNSPACED.items():
        found = [word for word in words if letters.search(word)]
        if len(found) > MUCH * len(words) and (mean := fmean(map(len, found))) > usual:
            few = first_few(sorted(found, key=len, reverse=True), 2)
            problem = (
                f"{format_share(len(found) / len(words))} of the words are in a script without spaces between words"
            )
            remedy = "data.text.tokens=characters (or bpe) cuts such texts"
            log.warning("%s, and are whole clauses of %.0f letters on average (%s): %s", problem, mean, few, remedy)
