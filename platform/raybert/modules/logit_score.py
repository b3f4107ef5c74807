"""A causal language model's answer as a score: how much rather "yes" than "no"."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor

from raybert.errors import ModelError
from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.module import Features, Module, Opening

LOGITS = "causal_logits"


class LogitScore(Module):
    """score = logit(yes) - logit(no) after a text's last token, which left padding keeps last.

    Args:
        true_token_id: the token of a match.
        false_token_id: the token of none; None scores by the first alone.
        module_input_name: feature to read, [B, kept tokens, V].
    """

    family: ClassVar[str] = "sentence_transformers.cross_encoder.modules.logit_score"

    def __init__(
        self,
        true_token_id: int,
        false_token_id: int | None = None,
        module_input_name: str = LOGITS,
    ) -> None:
        super().__init__()
        self.true_token_id = true_token_id
        self.false_token_id = false_token_id
        self.module_input_name = module_input_name

    @classmethod
    def of_words(cls, tokenizer: Any, true_word: str = "yes", false_word: str = "no") -> Self:
        """Build the module from words.

        Raises:
            ModelError: the tokenizer has no token for a word.
        """
        ids = [tokenizer.convert_tokens_to_ids(word) for word in (true_word, false_word)]
        if None in ids or tokenizer.unk_token_id in ids:
            raise ModelError(
                f"the tokenizer has no token {true_word!r} or {false_word!r}: name others"
            )
        return cls(*ids)

    @classmethod
    def load(cls, folder: Path, opening: Opening) -> Self:
        """Read `config.json`."""
        config = read_config(folder / "config.json")
        return cls(
            config["true_token_id"],
            config.get("false_token_id"),
            config.get("module_input_name") or LOGITS,
        )

    def save(self, folder: Path) -> None:
        """Write `config.json`."""
        names = ("true_token_id", "false_token_id", "module_input_name")
        write_config(folder / "config.json", {name: getattr(self, name) for name in names})

    def width(self, width: int = 0) -> int:
        """Return the number of scores, 1."""
        return 1

    def forward(self, features: Features) -> Features:
        """Turn logits [B, kept tokens, V] into scores [B, 1]."""
        logits_BV: Tensor = features[self.module_input_name][:, -1]
        scores_B1 = logits_BV[:, [self.true_token_id]]
        if self.false_token_id is not None:
            scores_B1 = scores_B1 - logits_BV[:, [self.false_token_id]]
        features["scores"] = scores_B1
        return features
