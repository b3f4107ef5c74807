from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from raybert.errors import ModelError
from raybert.modules import LogitScore, Opening

LOGITS = torch.tensor([[[9.0, 9, 9, 9], [1, 2, 3, 5]], [[9, 9, 9, 9], [0, 4, 4, 1]]])


def test_yes_less_no_after_the_last_token() -> None:
    found = LogitScore(3, 1)({"causal_logits": LOGITS})["scores"]
    assert found.tolist() == [[3], [-3]]
    assert LogitScore(3)({"causal_logits": LOGITS})["scores"].tolist() == [[5], [1]]


def test_saved_and_read_again(tmp_path: Path) -> None:
    LogitScore(3, 1, "logits").save(tmp_path)
    again = LogitScore.load(tmp_path, Opening())
    assert (again.true_token_id, again.false_token_id) == (3, 1)
    assert (again.module_input_name, again.width()) == ("logits", 1)


def test_words_without_a_token() -> None:
    tokenizer = SimpleNamespace(convert_tokens_to_ids={"yes": 7, "no": 0}.get, unk_token_id=0)
    with pytest.raises(ModelError, match="has no token 'yes' or 'no'"):
        LogitScore.of_words(tokenizer)
    assert LogitScore.of_words(tokenizer, "yes", "yes").true_token_id == 7
