"""Batches by tokens, not by texts: sorted by length, bounded by what they cost padded."""

from __future__ import annotations

from collections.abc import Sequence

from raybert.errors import SettingsError


def token_batches(
    lengths: Sequence[int], tokens_per_batch: int, max_texts: int | None = None
) -> list[list[int]]:
    """Share texts out into batches of similar length, longest first.

    A batch costs its longest text times its number of texts. No batch costs more than the budget,
    except a single text that is longer than it.

    Args:
        lengths: tokens of each text.
        tokens_per_batch: the budget, in padded tokens.
        max_texts: most texts in a batch.

    Returns:
        For each batch the rows of its texts; every row is in exactly one batch.
    """
    if tokens_per_batch < 1:
        raise SettingsError(f"tokens_per_batch {tokens_per_batch}: must be at least 1")
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    start = 0
    while start < len(order):
        count = max(1, tokens_per_batch // max(1, lengths[order[start]]))
        if max_texts is not None:
            count = min(count, max_texts)
        batches.append(order[start : start + count])
        start += count
    return batches
