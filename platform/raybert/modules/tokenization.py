"""From texts to ragged token ids, and from ragged ids to one padded batch.

A `Tokenization` holds no weights: CPU tasks open it without loading the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from tokenizers import Tokenizer
from tokenizers.normalizers import Lowercase, Normalizer
from tokenizers.normalizers import Sequence as NormalizerSequence

from raybert.errors import ModelError
from raybert.modules.checkpoint import first_line, read_config
from raybert.modules.module import Features
from raybert.records import TokenizedTexts

UNLIMITED = 10**9
"""Tokens: a tokenizer's `model_max_length` above this means that it has no limit."""

Text = str | tuple[str, str]
"""One text, or a pair of texts that the model reads together."""


class Tokenization:
    """Tokenizes texts; several threads may share it; it can be pickled.

    Args:
        tokenizer: a transformers tokenizer.
        max_seq_length: longest text in tokens, special tokens included; None is without limit.
        do_lower_case: lower-case texts before the tokenizer sees them.
        padding_side: "left" or "right"; None takes the tokenizer's own.
        special_tokens: add the tokens that begin and end a text.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_seq_length: int | None = None,
        *,
        do_lower_case: bool = False,
        padding_side: str | None = None,
        special_tokens: bool = True,
    ) -> None:
        self.tokenizer = tokenizer
        self.do_lower_case = do_lower_case
        self.padding_side = padding_side or tokenizer.padding_side
        self.special_tokens = special_tokens
        self._max_seq_length = max_seq_length
        self._segments = "token_type_ids" in tokenizer.model_input_names
        self._backend = self._limited_backend()

    @classmethod
    def open(
        cls, folder: Path, *, max_positions: int | None = None, trust_remote_code: bool = False
    ) -> Self:
        """Open the tokenizer of a Transformer's folder with the limits its files state.

        Args:
            folder: the module's folder.
            max_positions: the transformer's number of positions, the limit where none is stated.
            trust_remote_code: run a tokenizer's own Python code.

        Raises:
            ModelError: there is no tokenizer that can be read.
        """
        config = transformer_settings(folder)
        tokenizer = open_tokenizer(folder, trust_remote_code=trust_remote_code)
        limit = config.get("max_seq_length")
        if limit is None:
            limit = min(tokenizer.model_max_length, max_positions or UNLIMITED)
        return cls(
            tokenizer,
            limit if limit < UNLIMITED else None,
            do_lower_case=bool(config.get("do_lower_case", False)),
        )

    @property
    def max_seq_length(self) -> int | None:
        """Longest text in tokens, special tokens included; None is without limit."""
        return self._max_seq_length

    @max_seq_length.setter
    def max_seq_length(self, tokens: int | None) -> None:
        self._max_seq_length = tokens
        self._backend = self._limited_backend()

    def __call__(self, texts: Sequence[Text]) -> TokenizedTexts:
        """Tokenize texts or pairs, each cut to `max_seq_length`."""
        if not texts:
            return TokenizedTexts([])
        if self._backend is None:
            return self._by_python(texts)
        encodings = self._backend.encode_batch_fast(
            list(texts), add_special_tokens=self.special_tokens
        )
        types = None
        if self._segments and isinstance(texts[0], tuple):
            types = [encoding.type_ids for encoding in encodings]
        return TokenizedTexts([encoding.ids for encoding in encodings], types)

    def prompted(self, texts: Sequence[Text], prompt: str) -> TokenizedTexts:
        """Tokenize texts with a prompt before each, or before the first of each pair."""
        tokens = self([_prompted(prompt, text) for text in texts])
        return replace(tokens, prompt_length=self.prompt_length(prompt))

    def routed(self, task: str | None) -> Tokenization:
        """Return the tokenization for a task, which is this one for every task."""
        return self

    def prompt_length(self, prompt: str) -> int:
        """Return how many leading tokens of a prompted text belong to the prompt."""
        ids = self([prompt]).input_ids[0]
        return len(ids) - int(bool(ids) and ids[-1] in self.tokenizer.all_special_ids)

    def pad(self, tokens: TokenizedTexts, device: torch.device | str = "cpu") -> Features:
        """Pad ragged ids into one batch of features, [B, T] each."""
        pad_id = self.tokenizer.pad_token_id or 0
        left = self.padding_side == "left"
        lengths = tokens.lengths
        features: Features = {"input_ids": padded(tokens.input_ids, lengths, pad_id, left)}
        features["attention_mask"] = padded_mask(lengths, left)
        if tokens.token_type_ids is not None:
            pad_type = getattr(self.tokenizer, "pad_token_type_id", 0)
            features["token_type_ids"] = padded(tokens.token_type_ids, lengths, pad_type, left)
        features = {name: tensor.to(device) for name, tensor in features.items()}
        if tokens.prompt_length:
            features["prompt_length"] = tokens.prompt_length
        return features

    def _limited_backend(self) -> Tokenizer | None:
        """Copy the fast tokenizer with this truncation fixed in it, so that no call changes it."""
        original = getattr(self.tokenizer, "backend_tokenizer", None)
        if original is None:
            return None
        backend = Tokenizer.from_str(original.to_str())
        backend.no_padding()
        backend.no_truncation()
        if self._max_seq_length is not None:
            side = self.tokenizer.truncation_side
            backend.enable_truncation(self._max_seq_length, direction=side)
        if self.do_lower_case:
            backend.normalizer = lower_cased(backend.normalizer)
        return backend

    def _by_python(self, texts: Sequence[Text]) -> TokenizedTexts:
        """Tokenize with a tokenizer that has no fast backend."""
        first = [text if isinstance(text, str) else text[0] for text in texts]
        second = None if isinstance(texts[0], str) else [text[1] for text in texts]
        if self.do_lower_case:
            first = [text.lower() for text in first]
            second = None if second is None else [text.lower() for text in second]
        found = self.tokenizer(
            first,
            second,
            truncation="longest_first" if self._max_seq_length is not None else False,
            max_length=self._max_seq_length,
            add_special_tokens=self.special_tokens,
        )
        types = found.get("token_type_ids") if second is not None else None
        return TokenizedTexts(found["input_ids"], types)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, with this limit as theirs."""
        before = self.tokenizer.model_max_length
        self.tokenizer.model_max_length = self._max_seq_length or before
        try:
            self.tokenizer.save_pretrained(str(folder))
        finally:
            self.tokenizer.model_max_length = before


def open_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Open a transformers tokenizer.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    from transformers import AutoTokenizer

    if not has_tokenizer(folder):
        raise ModelError(f"model folder {str(folder)!r}: has no tokenizer (tokenizer.json)")
    try:
        return AutoTokenizer.from_pretrained(
            str(folder), trust_remote_code=trust_remote_code, local_files_only=True
        )
    except (ValueError, OSError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(
            f"tokenizer of {str(folder)!r} cannot be read: {first_line(error)}"
        ) from None


def has_tokenizer(folder: Path) -> bool:
    """Tell whether a folder holds a tokenizer's files."""
    names = ("tokenizer", "vocab", "spiece", "sentencepiece", "merges", "spm", "bpe")
    return any(path.name.startswith(names) for path in folder.iterdir())


def transformer_settings(folder: Path) -> dict[str, Any]:
    """Read `sentence_bert_config.json`, under any of the names it has had."""
    kinds = ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    for kind in kinds:
        path = folder / f"sentence_{kind}_config.json"
        if path.exists():
            found: dict[str, Any] = read_config(path)
            return found
    return {}


def lower_cased(normalizer: Normalizer | None) -> Normalizer:
    """Put lower-casing before a normalizer."""
    if normalizer is None:
        return Lowercase()
    return NormalizerSequence([Lowercase(), normalizer])


def padded(
    rows: Sequence[Sequence[int]], lengths: Sequence[int], value: int, left: bool
) -> torch.Tensor:
    """Return ragged rows as one [B, T] int64 tensor."""
    width = max(1, *lengths) if lengths else 1
    out = np.full((len(rows), width), value, dtype=np.int64)
    for place, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if left:
            out[place, width - length :] = row
        else:
            out[place, :length] = row
    return torch.from_numpy(out)


def padded_mask(lengths: Sequence[int], left: bool) -> torch.Tensor:
    """Return the [B, T] mask, 1 at real tokens."""
    width = max(1, *lengths) if lengths else 1
    places = np.arange(width)[None, :]
    counts = np.asarray(lengths)[:, None]
    mask = places >= width - counts if left else places < counts
    return torch.from_numpy(mask.astype(np.int64))


def _prompted(prompt: str, text: Text) -> Text:
    """Put a prompt before a text, or before the first of a pair."""
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])
