"""Sanity of translations: lengths that do not fit, copies, and letters of the wrong script."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import Field

from raybert.settings import Settings


class SanityRules(Settings):
    """Which pairs of sentences are worth keeping; nothing is dropped unless it is asked for."""

    min_chars: int | None = Field(None, ge=1)
    """Letters and signs of either sentence, at least."""
    max_chars: int | None = Field(None, ge=1)
    """At most."""
    max_ratio: float | None = Field(None, ge=1)
    """How many times longer one may be than the other."""
    drop_copies: bool = False
    """Drop pairs of which both sides read the same, but for case and spaces."""
    source_script: str | None = None
    """Script of most letters of a source sentence, as Unicode names it: latin, cyrillic, cjk,
    hiragana, arabic, greek; several joined by +."""
    target_script: str | None = None
    """The same of a target sentence."""


def sane_pairs(
    sources: Sequence[str], targets: Sequence[str], rules: SanityRules
) -> tuple[npt.NDArray[np.bool_], dict[str, int]]:
    """Say which pairs pass, [P], and how many each rule dropped; a pair counts for the first.

    Args:
        sources: [P] sentences of one language.
        targets: [P] their supposed translations.
        rules: what is asked for.
    """
    faults = [_fault(*pair, rules) for pair in zip(sources, targets, strict=True)]
    return np.array([fault is None for fault in faults], bool), dict(
        Counter(fault for fault in faults if fault is not None)
    )


def _fault(source: str, target: str, rules: SanityRules) -> str | None:
    short, long = sorted((len(source), len(target)))
    if rules.min_chars is not None and short < rules.min_chars:
        return "min_chars"
    if rules.max_chars is not None and long > rules.max_chars:
        return "max_chars"
    if rules.max_ratio is not None and long > rules.max_ratio * max(short, 1):
        return "max_ratio"
    if rules.drop_copies and _folded(source) == _folded(target):
        return "drop_copies"
    for name, text in (("source_script", source), ("target_script", target)):
        script = getattr(rules, name)
        if script is not None and not _mostly(text, script.upper().split("+")):
            return name
    return None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _mostly(text: str, scripts: Sequence[str]) -> bool:
    """Say whether half of a text's letters or more are of the scripts; a text without any is."""
    names = [unicodedata.name(sign, "") for sign in text if sign.isalpha()]
    return 2 * sum(name.split(" ")[0] in scripts for name in names) >= len(names)
