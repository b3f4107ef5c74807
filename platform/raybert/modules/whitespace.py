"""A tokenizer that splits texts at spaces."""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from raybert.errors import InputError
from raybert.modules.checkpoint import read_config, write_config
from raybert.modules.tokenization import UNLIMITED

CONFIG = "whitespacetokenizer_config.json"


class WhitespaceTokenizer:
    """Split at spaces; a word that is unknown is tried without its punctuation, then lower-cased.

    Words unknown in all three forms are left out, as are stop words.

    Args:
        vocab: the words, in the order of their ids.
        stop_words: words that are left out.
        do_lower_case: lower-case the text first.
    """

    model_input_names: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    padding_side: ClassVar[str] = "right"
    all_special_ids: ClassVar[tuple[int, ...]] = ()
    pad_token_id: ClassVar[int] = 0

    def __init__(
        self, vocab: Iterable[str], stop_words: Iterable[str] = (), do_lower_case: bool = False
    ) -> None:
        self.vocab = list(dict.fromkeys(vocab))
        self.stop_words = frozenset(stop_words)
        self.do_lower_case = do_lower_case
        self.model_max_length = UNLIMITED
        self._ids = {word: place for place, word in enumerate(self.vocab)}

    def __call__(
        self,
        texts: Sequence[str],
        pairs: object = None,
        *,
        max_length: int | None = None,
        **_: Any,
    ) -> dict[str, list[list[int]]]:
        """Return the ids of each text's words, at most `max_length` of them.

        Raises:
            InputError: pairs of texts, which words cannot be read as.
        """
        if pairs is not None:
            raise InputError("a model over words reads single texts, not pairs")
        return {"input_ids": [self._split(text)[:max_length] for text in texts]}

    def __len__(self) -> int:
        return len(self.vocab)

    def get_vocab(self) -> dict[str, int]:
        """Return each word's id."""
        return dict(self._ids)

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the words of ids."""
        return [self.vocab[place] for place in ids]

    def save_pretrained(self, folder: str) -> None:
        """Write the words."""
        config = {
            "vocab": self.vocab,
            "stop_words": sorted(self.stop_words),
            "do_lower_case": self.do_lower_case,
        }
        write_config(Path(folder) / CONFIG, config)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the words."""
        config = read_config(folder / CONFIG)
        names = ("vocab", "stop_words", "do_lower_case")
        return cls(**{name: config[name] for name in names if name in config})

    def _split(self, text: str) -> list[int]:
        """Return the ids of a text's known words."""
        words = (text.lower() if self.do_lower_case else text).split()
        return [place for place in map(self._known, words) if place is not None]

    def _known(self, word: str) -> int | None:
        """Return the id of the first known form of a word; None for none, or a stop word."""
        stripped = word.strip(string.punctuation)
        for form in (word, stripped, stripped.lower()):
            if form in self.stop_words:
                return None
            if form in self._ids:
                return self._ids[form]
        return None
