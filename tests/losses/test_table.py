from __future__ import annotations

from pathlib import Path

import pytest

from raybert.losses.choose import LOSSES, MODIFIERS
from raybert.losses.table import page

DOCUMENT = Path(__file__).parents[2] / "docs" / "losses.md"


def test_the_page_is_what_the_docstrings_say() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), (
        "run: python -m raybert.losses.table > docs/losses.md"
    )


@pytest.mark.parametrize("family", LOSSES)
def test_every_loss_says_when_to_prefer_another(family: str) -> None:
    for loss in [*LOSSES[family].values(), *MODIFIERS.values()]:
        assert loss.__doc__ is not None
        assert "Prefer:" in loss.__doc__, loss
        assert f"`{loss.__name__}`" in page()
