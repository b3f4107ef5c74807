"""Small models for serving tests: real tokenization, arithmetic in place of a transformer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from starlette.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from raybert.encoders import Tokenizing
from raybert.modules import Tokenization
from raybert.records import TokenizedTexts
from raybert.serving import Desk, Directory, Embedder, GatewaySettings, Reranker, build_gateway
from raybert.serving.lanes import BatchSettings
from raybert.serving.served_model import ServedModel

_T = TypeVar("_T")

WIDTH = 16
LIMIT = 12
SPECIAL = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
WORDS = tuple("a the cat dog sat mat on is paris capital of france query : ready ? .".split())  # noqa: SIM905


def small_tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = SPECIAL | {word: at for at, word in enumerate(WORDS, start=len(SPECIAL))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


class SmallDense:
    """A dense encoder: the mean of fixed random vectors of a text's tokens."""

    capabilities = frozenset({"dense"})
    fingerprint = "dense-fingerprint"
    similarity_fn_name = "cosine"
    max_seq_length = LIMIT

    def __init__(self) -> None:
        tokenization = Tokenization(small_tokenizer(), LIMIT)
        self.tokenizing = Tokenizing(tokenization, {"query": "query : "})
        self.prompts = self.tokenizing.prompts
        self.tokenizer = tokenization.tokenizer
        self.table = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(1))
        self.batches: list[list[int]] = []
        self.broken = False

    def get_embedding_dimension(self) -> int:
        return WIDTH

    def pre(self, texts: Any, **prompt: Any) -> TokenizedTexts:
        return self.tokenizing.pre(texts, **prompt)

    def core(self, tokens: TokenizedTexts) -> torch.Tensor:
        self.batches.append(tokens.lengths)
        if self.broken:
            return torch.full((len(tokens), WIDTH), float("nan"))
        return torch.stack([self.table[list(ids)].mean(0) for ids in tokens.input_ids])

    def post(
        self,
        vectors: torch.Tensor,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> np.ndarray[Any, Any]:
        kept = vectors[:, :truncate_dim]
        return (torch.nn.functional.normalize(kept) if normalize_embeddings else kept).numpy()

    def encode(self, texts: list[str], **prompt: Any) -> np.ndarray[Any, Any]:
        return self.core(self.pre(texts, **prompt)).numpy()


class SmallCross(SmallDense):
    """A cross-encoder: as many points as tokens that both texts share."""

    capabilities = frozenset({"rerank"})
    fingerprint = "cross-fingerprint"
    num_labels = 1

    def core(self, tokens: TokenizedTexts) -> torch.Tensor:
        assert tokens.token_type_ids is not None
        points = []
        for ids, types in zip(tokens.input_ids, tokens.token_type_ids, strict=True):
            first = {each for each, kind in zip(ids, types, strict=True) if kind == 0 and each > 3}
            second = {each for each, kind in zip(ids, types, strict=True) if kind == 1 and each > 3}
            points.append([float(len(first & second)) - 1])
        return torch.tensor(points)


@pytest.fixture
def run() -> Callable[[Awaitable[_T]], _T]:
    """Run one coroutine to its end."""

    async def finished(work: Awaitable[_T]) -> _T:
        return await work

    return lambda work: asyncio.run(finished(work))


@pytest.fixture
def dense() -> SmallDense:
    return SmallDense()


@pytest.fixture
def cross() -> SmallCross:
    return SmallCross()


@pytest.fixture
def embedder(dense: SmallDense) -> Embedder:
    return Embedder([ServedModel("small", dense)])


@pytest.fixture
def reranker(cross: SmallCross) -> Reranker:
    return Reranker([ServedModel("cross", cross)])


@pytest.fixture
def directory(embedder: Embedder, reranker: Reranker) -> Directory:
    return Directory(embedder, reranker)


@pytest.fixture
def serve_app(dense: SmallDense, cross: SmallCross) -> Iterator[Callable[..., TestClient]]:
    """Return a function that serves the small models in process and gives a client."""
    opened: list[TestClient] = []

    def serve(searches: Any = None, **settings: Any) -> TestClient:
        embeds = Embedder([ServedModel("small", dense)])
        models = Directory(embeds, Reranker([ServedModel("cross", cross)]))
        desk = Desk(GatewaySettings.model_validate(settings), models, searches)
        client = TestClient(
            build_gateway(desk), raise_server_exceptions=False, client=("127.0.0.1", 50000)
        )
        client.__enter__()
        opened.append(client)
        return client

    yield serve
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve_app: Callable[..., TestClient]) -> TestClient:
    return serve_app()


@pytest.fixture
def small() -> SimpleNamespace:
    """Numbers of the small models."""
    return SimpleNamespace(width=WIDTH, limit=LIMIT, words=WORDS, batch=BatchSettings)
