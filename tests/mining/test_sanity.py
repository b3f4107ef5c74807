from __future__ import annotations

from typing import Any

import pytest

from raybert.mining import SanityRules, sane_pairs

SOURCES = ["A short text of one line.", "no", "The cat sat on the mat.", "Hello World", "2 + 2"]
TARGETS = ["Ein kurzer Text.", "nein, auf keinen Fall", "Кошка сидела.", "hello  world", "2 + 2"]


@pytest.mark.parametrize(
    ("rules", "kept", "dropped"),
    [
        ({}, [1, 1, 1, 1, 1], {}),
        ({"min_chars": 5}, [1, 0, 1, 1, 1], {"min_chars": 1}),
        ({"max_chars": 21}, [0, 1, 0, 1, 1], {"max_chars": 2}),
        ({"max_ratio": 3}, [1, 0, 1, 1, 1], {"max_ratio": 1}),
        ({"drop_copies": True}, [1, 1, 1, 0, 0], {"drop_copies": 2}),
        ({"target_script": "latin"}, [1, 1, 0, 1, 1], {"target_script": 1}),
        ({"target_script": "Latin+Cyrillic"}, [1, 1, 1, 1, 1], {}),
        ({"source_script": "greek", "min_chars": 4}, [0, 0, 0, 0, 1], None),
    ],
    ids=str,
)
def test_each_rule_drops_what_it_names(
    rules: dict[str, Any], kept: list[int], dropped: dict[str, int] | None
) -> None:
    found, counts = sane_pairs(SOURCES, TARGETS, SanityRules(**rules))
    assert found.astype(int).tolist() == kept
    assert counts == (dropped if dropped is not None else {"source_script": 3, "min_chars": 1})
