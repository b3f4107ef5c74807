"""What a request may ask for; each limit has a name, and a refusal says it with its value."""

from __future__ import annotations

from collections.abc import Sequence

from raybert.serving.faults import FaultKind, RequestError
from raybert.settings import Settings


class Limits(Settings):
    """Bounds of one request; beyond them it is refused before any work is done."""

    max_body_bytes: int = 8 * 1024 * 1024
    """Bytes of the request body."""
    max_items: int = 2048
    """Texts in one embeddings request (OpenAI's own number)."""
    max_items_tei: int = 32
    """Texts in one request on the TEI routes (their `max_client_batch_size`)."""
    max_items_cohere: int = 96
    """Texts in one `/v2/embed` request (Cohere's own number)."""
    max_request_ids: int = 300_000
    """Lists of token ids, or token ids, in one `/decode` request."""
    max_documents: int = 1000
    """Documents in one rerank request, or in one upsert."""
    max_chars: int = 122_880
    """Characters of one text, looked at before it is tokenized."""
    max_top_k: int = 1000
    """Hits of one search, and candidates of each leg."""
    max_concurrent_requests: int = 512
    """Requests one gateway replica works on at a time."""

    def check_items(self, items: Sequence[object], param: str, limit: str = "max_items") -> None:
        """Refuse no items and too many.

        Raises:
            RequestError: `EMPTY` or `TOO_MANY`.
        """
        allowed = int(getattr(self, limit))
        if not items:
            raise RequestError(FaultKind.EMPTY, f"`{param}` cannot be empty", param)
        if len(items) > allowed:
            raise RequestError(
                FaultKind.TOO_MANY,
                f"`{param}` has {len(items)} items, more than the limit {limit} of {allowed}",
                param,
            )

    def check_texts(self, texts: Sequence[str], param: str, allow_empty: bool = True) -> None:
        """Refuse texts that are too long to look at, empty where that has no meaning, or no text.

        Raises:
            RequestError: `TOO_LONG`, `EMPTY`, or `INVALID` for text that is no Unicode.
        """
        for at, text in enumerate(texts):
            if len(text) > self.max_chars:
                raise RequestError(
                    FaultKind.TOO_LONG,
                    f"`{param}` item {at} has {len(text)} characters, more than the limit "
                    f"max_chars of {self.max_chars}",
                    param,
                )
            if not allow_empty and not text:
                raise RequestError(FaultKind.EMPTY, f"`{param}` item {at} is empty", param)
            if not _is_unicode(text):
                raise RequestError(
                    FaultKind.INVALID,
                    f"`{param}` item {at} holds a lone surrogate, which is no text",
                    param,
                )

    def check_at_most(self, value: int, param: str, limit: str) -> None:
        """Refuse a number above a limit.

        Raises:
            RequestError: `INVALID`.
        """
        allowed = int(getattr(self, limit))
        if value > allowed:
            raise RequestError(
                FaultKind.INVALID,
                f"`{param}` is {value}, above the limit {limit} of {allowed}",
                param,
            )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
