"""From what a request holds to tokens: prompts, token ids, over-long texts; on the CPU only."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from raybert.errors import InputError
from raybert.modules import Tokenization
from raybert.records import TokenizedTexts
from raybert.serving.faults import FaultKind, RequestError

Side = Literal["left", "right"]
"""Which end of an over-long text is cut off."""


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Tokens of a request's texts, how many texts were cut, and the milliseconds it took."""

    tokens: TokenizedTexts
    truncated: int
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Piece:
    """One token of a text: its place in the text is None for a special token."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Preparation:
    """The tokenizing half of a served model; several threads may share it.

    Args:
        name: the model's served name, for messages.
        encoder: the model's encoder.
    """

    def __init__(self, name: str, encoder: Any) -> None:
        self.name = name
        self.max_tokens: int = encoder.max_seq_length or 0
        self._encoder = encoder
        tokenization = encoder.tokenizing.tokenization
        self._unlimited = Tokenization(
            tokenization.tokenizer, None, do_lower_case=tokenization.do_lower_case
        )
        self._before, self._after = _special_frame(self._unlimited)

    def texts(
        self, texts: Sequence[Any], truncate: bool, side: Side = "right", **prompt: Any
    ) -> Tokenized:
        """Tokenize texts, or pairs of texts.

        Args:
            texts: strings or pairs of strings.
            truncate: cut over-long texts instead of refusing them.
            side: which end is cut.
            prompt: `prompt_name`, `task`, as the encoder's `pre` takes them.

        Raises:
            RequestError: `TOO_LONG` where a text is over the limit and must not be cut;
                `INVALID` for an unknown prompt.
        """
        begin = time.perf_counter()
        try:
            tokens: TokenizedTexts = self._encoder.pre(texts, **prompt)
        except InputError as error:
            raise RequestError(FaultKind.INVALID, str(error)) from None
        over_long = self._over_long(texts, tokens, prompt)
        if over_long and not truncate:
            at, ids = next(iter(over_long.items()))
            raise self._too_long(at, len(ids))
        if over_long and side == "left":
            tokens = self._cut_left(tokens, over_long)
        return Tokenized(tokens, len(over_long), (time.perf_counter() - begin) * 1e3)

    def ids(self, ids: Sequence[Sequence[int]], truncate: bool, side: Side = "right") -> Tokenized:
        """Make texts given as token ids what the tokenizer makes of texts.

        Ids that already carry the model's special tokens stay as they are.

        Raises:
            RequestError: an id outside the vocabulary, or too many of them.
        """
        begin = time.perf_counter()
        self._check_ids(ids)
        rows = [self._framed(row) for row in ids]
        limit = self.max_tokens
        long = [at for at, row in enumerate(rows) if limit and len(row) > limit]
        if long and not truncate:
            raise self._too_long(long[0], len(rows[long[0]]))
        for at in long:
            rows[at] = self._shortened(rows[at], side)
        return Tokenized(TokenizedTexts(rows), len(long), (time.perf_counter() - begin) * 1e3)

    def pieces(
        self, texts: Sequence[str], special_tokens: bool, prompt_name: str | None
    ) -> list[list[Piece]]:
        """Return the tokens of texts with their places, never cut.

        Raises:
            RequestError: `INVALID` for an unknown prompt.
        """
        try:
            before = self._encoder.tokenizing.prompt(prompt_name) if prompt_name else ""
        except InputError as error:
            raise RequestError(FaultKind.INVALID, str(error), "prompt_name") from None
        found = self._encoder.tokenizer(
            [before + text for text in texts],
            add_special_tokens=special_tokens,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        rows = zip(
            found["input_ids"], found["special_tokens_mask"], found["offset_mapping"], strict=True
        )
        return [self._pieces(*row) for row in rows]

    def decode(self, ids: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        """Return the texts that token ids stand for.

        Raises:
            RequestError: an id outside the vocabulary.
        """
        self._check_ids(ids)
        tokenizer = self._encoder.tokenizer
        return [
            str(tokenizer.decode(list(row), skip_special_tokens=skip_special_tokens)) for row in ids
        ]

    def _pieces(
        self, ids: Sequence[int], special: Sequence[int], places: Sequence[tuple[int, int]]
    ) -> list[Piece]:
        tokens = self._encoder.tokenizer.convert_ids_to_tokens(list(ids))
        return [
            Piece(each, token, bool(mark), None if mark else start, None if mark else stop)
            for each, token, mark, (start, stop) in zip(ids, tokens, special, places, strict=True)
        ]

    def _over_long(
        self, texts: Sequence[Any], tokens: TokenizedTexts, prompt: Mapping[str, Any]
    ) -> dict[int, Sequence[int]]:
        """Return the whole ids of each text that was cut, by row.

        Only texts exactly at the limit can have been cut; those alone are tokenized again.
        """
        limit = self.max_tokens
        full = [at for at, length in enumerate(tokens.lengths) if limit and length >= limit]
        if not full:
            return {}
        before = self._encoder.tokenizing.prompt(**prompt)
        whole = self._unlimited([_with_prompt(before, texts[at]) for at in full]).input_ids
        return {at: ids for at, ids in zip(full, whole, strict=True) if len(ids) > limit}

    def _cut_left(
        self, tokens: TokenizedTexts, over_long: Mapping[int, Sequence[int]]
    ) -> TokenizedTexts:
        if tokens.token_type_ids is not None:
            message = "pairs of texts are cut on the right only"
            raise RequestError(FaultKind.INVALID, message, "truncation_direction")
        rows = list(tokens.input_ids)
        for at, ids in over_long.items():
            rows[at] = self._shortened(list(ids), "left")
        return replace(tokens, input_ids=rows)

    def _framed(self, ids: Sequence[int]) -> list[int]:
        before, after, row = self._before, self._after, list(ids)
        has_before = row[: len(before)] == before
        has_after = not after or row[-len(after) :] == after
        return row if row and has_before and has_after else [*before, *row, *after]

    def _shortened(self, row: list[int], side: Side) -> list[int]:
        """Cut framed ids to the limit; the special tokens stay."""
        before, after = self._before, self._after
        inner = row[len(before) : len(row) - len(after)]
        room = self.max_tokens - len(before) - len(after)
        return [*before, *(inner[-room:] if side == "left" else inner[:room]), *after]

    def _check_ids(self, ids: Sequence[Sequence[int]]) -> None:
        vocabulary = len(self._encoder.tokenizer)
        worst = max((max(row, default=0) for row in ids), default=0)
        if worst >= vocabulary:
            message = f"token id {worst} is outside the vocabulary of {vocabulary} tokens"
            raise RequestError(FaultKind.INVALID, message, "input")

    def _too_long(self, at: int, tokens: int) -> RequestError:
        message = f"input {at} has {tokens} tokens; model {self.name!r} takes at most "
        return RequestError(FaultKind.TOO_LONG, f"{message}{self.max_tokens}", "input")


def _special_frame(tokenization: Tokenization) -> tuple[list[int], list[int]]:
    """Return the special tokens a tokenizer puts before and after a text."""
    empty = list(tokenization([""]).input_ids[0])
    filled = list(tokenization(["a"]).input_ids[0])
    before = 0
    while before < len(empty) and empty[before] == filled[before]:
        before += 1
    return empty[:before], empty[before:]


def _with_prompt(prompt: str, text: Any) -> Any:
    return prompt + text if isinstance(text, str) else (prompt + text[0], text[1])
