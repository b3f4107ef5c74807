"""Texts as conversations: language models that read what a chat template makes of a text or pair.

A text is what the user says; of a pair the first is the "query" and the second the "document"; a
prompt is the system's message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any, Self

from raybert.errors import ModelError
from raybert.modules.checkpoint import first_line
from raybert.modules.tokenization import Text, Tokenization, transformer_settings
from raybert.records import TokenizedTexts

FORMATS = ("flat", "structured")
"""Whether a message's content is the text itself, or a list of typed parts."""

ROLES = ("query", "document")
"""Who says the two halves of a pair."""

_FLAT_MODELS = frozenset({"apertus", "deepseek_v3", "gpt_oss", "seed_oss"})
_STRUCTURED_SIGNS = ("content[0]", ".type", "'type'", '"type"', "message.content[")
_OWN_OPTIONS = ("padding", "truncation", "max_length", "return_tensors")
_PROBES: tuple[Text, ...] = (("alpha", "bravo"), ("charlie", "bravo"), ("alpha", "foxtrot"))

Conversation = list[dict[str, Any]]


class ChatTokenization(Tokenization):
    """Tokenizes the conversation that a chat template makes of each text or pair.

    A conversation that is too long loses content and keeps its end, as a model that answers reads
    its last token.

    Args:
        tokenizer: a transformers tokenizer with a chat template.
        max_seq_length: longest conversation in tokens; None is without limit.
        form: one of `FORMATS`.
        options: what else the template is given, such as `add_generation_prompt`.
        keep_end: put the template's end back where a conversation was cut.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_seq_length: int | None = None,
        *,
        form: str = "flat",
        options: Mapping[str, Any] | None = None,
        keep_end: bool = True,
    ) -> None:
        super().__init__(tokenizer, max_seq_length, special_tokens=False)
        self.form = form
        self.options = dict(options or {})
        self.keep_end = keep_end
        self._ends: dict[tuple[bool, str], list[int]] = {}

    @classmethod
    def of(cls, plain: Tokenization, folder: Path, model_type: str) -> Self:
        """Make one of a folder's plain tokenization and its `sentence_bert_config.json`.

        Raises:
            ModelError: the tokenizer has no chat template, or the format is none of `FORMATS`.
        """
        stated, where = transformer_settings(folder), f"model folder {str(folder)!r}"
        template = getattr(plain.tokenizer, "chat_template", None)
        if not template:
            raise ModelError(f"{where}: reads chat messages; its tokenizer has no chat_template")
        form = stated.get("modality_config", {}).get("message", {}).get("format", "auto")
        if form == "auto":
            form = _form(template, model_type)
        if form not in FORMATS:
            raise ModelError(f"{where}: message format {form!r}: known are {', '.join(FORMATS)}")
        options = dict(stated.get("processing_kwargs", {}).get("chat_template", {}))
        keep_end = bool(options.pop("restore_suffix", True))
        kept = {name: value for name, value in options.items() if name not in _OWN_OPTIONS}
        return cls(
            plain.tokenizer, plain.max_seq_length, form=form, options=kept, keep_end=keep_end
        )

    @property
    def stated(self) -> dict[str, Any]:
        """What `sentence_bert_config.json` says of the template's options."""
        options = self.options | ({} if self.keep_end else {"restore_suffix": False})
        return {"processing_kwargs": {"chat_template": options}} if options else {}

    def __call__(self, texts: Sequence[Text]) -> TokenizedTexts:
        """Tokenize the conversations of texts or pairs, each cut to `max_seq_length`."""
        return self.prompted(texts, "")

    def prompted(self, texts: Sequence[Text], prompt: str) -> TokenizedTexts:
        """Tokenize conversations that begin with a prompt; pooling takes its tokens in always.

        Raises:
            ModelError: the chat template cannot read them.
        """
        if not texts:
            return TokenizedTexts([])
        found = super().__call__(self._rendered(texts, prompt))
        ids = [list(row) for row in found.input_ids]
        if self.keep_end and self.max_seq_length is not None:
            for row, text in zip(ids, texts, strict=True):
                if len(row) >= self.max_seq_length:
                    end = self._end(isinstance(text, tuple), prompt)[-len(row) :]
                    row[len(row) - len(end) :] = end
        return TokenizedTexts(ids)

    def _conversation(self, text: Text, prompt: str) -> Conversation:
        """Return the messages of one text or pair."""
        said = [("user", text)] if isinstance(text, str) else [*zip(ROLES, text, strict=True)]
        if prompt:
            said.insert(0, ("system", prompt))
        return [
            {"role": role, "content": each if self.form == "flat" else [_part(each)]}
            for role, each in said
        ]

    def _rendered(self, texts: Sequence[Text], prompt: str) -> list[str]:
        """Return what the template makes of texts.

        Raises:
            ModelError: it fails, or loses one half of a pair.
        """
        from jinja2.exceptions import TemplateError

        pairs = isinstance(texts[0], tuple)
        probes = _PROBES if pairs and (True, prompt) not in self._ends else ()
        conversations = [self._conversation(text, prompt) for text in (*probes, *texts)]
        try:
            rendered: list[str] = self.tokenizer.apply_chat_template(
                conversations, tokenize=False, **self.options
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ModelError(f"the model's chat template failed: {first_line(error)}") from None
        if len(set(rendered[: len(probes)])) != len(probes):
            raise ModelError(
                "the model's chat template does not write the roles 'query' and 'document', "
                "so it cannot read pairs"
            )
        return rendered[len(probes) :]

    def _end(self, pairs: bool, prompt: str) -> list[int]:
        """Return the tokens that the template writes behind any content."""
        if (pairs, prompt) not in self._ends:
            fillers: list[Text] = (
                [("0", "0"), ("1 2 3 4", "1 2 3 4")] if pairs else ["0", "1 2 3 4"]
            )
            a, b = (self._whole(text) for text in self._rendered(fillers, prompt))
            both = zip(reversed(a), reversed(b), strict=False)
            count = len([*takewhile(lambda each: each[0] == each[1], both)])
            self._ends[pairs, prompt] = a[len(a) - count :] if count < min(len(a), len(b)) else []
        return self._ends[pairs, prompt]

    def _whole(self, text: str) -> list[int]:
        """Tokenize rendered text, never cut."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False, truncation=False)[
            "input_ids"
        ]
        return ids


def chats(folder: Path, tokenizer: Any) -> bool:
    """Tell whether a folder's model reads conversations.

    The folder says so; one that is no Sentence Transformers model yet does if its tokenizer has a
    chat template.
    """
    stated = transformer_settings(folder)
    if stated or (folder / "modules.json").exists():
        return "message" in stated.get("modality_config", {})
    return bool(getattr(tokenizer, "chat_template", None))


def _form(template: Any, model_type: str) -> str:
    """Guess a template's format of messages, as the reference library does."""
    if model_type in _FLAT_MODELS:
        return "flat"
    known = isinstance(template, str) and not any(sign in template for sign in _STRUCTURED_SIGNS)
    return "flat" if known else "structured"


def _part(text: str) -> dict[str, str]:
    """Return a text as a typed part of a message."""
    return {"type": "text", "text": text}
