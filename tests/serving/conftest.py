"""Small models for serving tests: real tokenization, arithmetic in place of a transformer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array
from starlette.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.encoders import Tokenizing
from raybert.index import build_index, build_text_index
from raybert.modules import Tokenization
from raybert.records import BatchUsage, TokenizedTexts
from raybert.serving import (
    Desk,
    Directory,
    Embedder,
    GatewaySettings,
    IndexSettings,
    Reranker,
    Searcher,
    build_gateway,
    open_generations,
)
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
        tokenization = Tokenization(small_tokenizer(), self.max_seq_length)
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

    def run_batches(
        self, run: Callable[[TokenizedTexts], _T], tokens: TokenizedTexts
    ) -> Iterator[tuple[list[int], _T, BatchUsage]]:
        """All at once, in the other order."""
        places = list(reversed(range(len(tokens))))
        yield places, run(tokens.take(places)), BatchUsage()

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
    max_seq_length = 2 * LIMIT
    num_labels = 1

    def core(self, tokens: TokenizedTexts) -> torch.Tensor:
        all_types = tokens.token_type_ids or [[0] * length for length in tokens.lengths]
        points = []
        for ids, types in zip(tokens.input_ids, all_types, strict=True):
            first = {each for each, kind in zip(ids, types, strict=True) if kind == 0 and each > 3}
            second = {each for each, kind in zip(ids, types, strict=True) if kind == 1 and each > 3}
            points.append([float(len(first & second)) - 1])
        return torch.tensor(points)


class SmallSparse(SmallDense):
    """A sparse encoder: how often each token id stands in a text."""

    capabilities = frozenset({"sparse"})
    fingerprint = "sparse-fingerprint"
    similarity_fn_name = "dot"
    tokens_per_batch = 24

    def core(self, tokens: TokenizedTexts) -> torch.Tensor:
        counts = [torch.bincount(torch.tensor(ids), minlength=32) for ids in tokens.input_ids]
        return torch.stack(counts).float()

    def post(self, weights: torch.Tensor) -> Any:  # type: ignore[override]
        return csr_array(weights.numpy())


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
def sparse() -> SmallSparse:
    return SmallSparse()


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
def serve_app(
    dense: SmallDense, cross: SmallCross, sparse: SmallSparse
) -> Iterator[Callable[..., TestClient]]:
    """Return a function that serves the small models in process and gives a client."""
    opened: list[TestClient] = []

    def serve(searches: Any = None, **settings: Any) -> TestClient:
        embeds = Embedder([ServedModel("small", dense), ServedModel("sparse", sparse)])
        models = Directory(embeds, Reranker([ServedModel("cross", cross)]))
        desk = Desk(GatewaySettings.model_validate(settings), models, searches)
        client = TestClient(
            build_gateway(desk),
            base_url="http://127.0.0.1",
            raise_server_exceptions=False,
            client=("127.0.0.1", 50000),
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


DOCUMENTS = {
    "d1": "the cat sat on a mat",
    "d2": "paris is the capital of france",
    "d3": "a dog",
    "d4": "the dog sat on the cat",
}


def write_index(
    folder: Path, vectors: Any, texts: dict[str, str], model: str, shards: int = 1
) -> str:
    """Write texts with their vectors [N, D] as an index artifact made by the model `model`."""
    embeddings = Folder(folder / "embeddings")
    flat = pa.array(np.asarray(vectors, dtype=np.float32).reshape(-1), pa.float32())
    table = pa.table(
        {
            "id": pa.array(list(texts)),
            "vector": pa.FixedSizeListArray.from_arrays(flat, np.shape(vectors)[1]),
            "content": pa.array(["-"] * len(texts)),
        }
    )
    manifest = Manifest(
        kind="embeddings",
        settings={"model": "m", "text_column": "body", "truncate_dim": None},
        rows=len(texts),
        inputs=(
            Input(kind="corpus", uri="docs", fingerprint="c"),
            Input(kind="model", uri="models/m", fingerprint=model),
        ),
        shards=(write_table(embeddings, "shards/00000.parquet", table),),
        details={"dimension": np.shape(vectors)[1], "similarity_fn_name": "cosine"},
    )
    write_manifest(embeddings, manifest)
    documents = pa.table(
        {
            "id": list(texts),
            "body": list(texts.values()),
            "words": [len(t.split()) for t in texts.values()],
        }
    )
    target = str(folder / "index")
    build_index(embeddings.uri, target, shards=shards, documents=[documents], probes=0)
    return target


@pytest.fixture
def documents() -> dict[str, str]:
    return dict(DOCUMENTS)


@pytest.fixture
def index_uri(tmp_path: Path, dense: SmallDense, documents: dict[str, str]) -> str:
    """An index of the four documents, made by the small dense model."""
    vectors = dense.encode(list(documents.values()))
    return write_index(tmp_path / "dense", vectors, documents, dense.fingerprint)


@pytest.fixture
def sharded_uri(tmp_path: Path, dense: SmallDense, documents: dict[str, str]) -> str:
    """The same index in three shards."""
    vectors = dense.encode(list(documents.values()))
    return write_index(tmp_path / "sharded", vectors, documents, dense.fingerprint, shards=3)


@pytest.fixture
def second_uri(tmp_path: Path, dense: SmallDense, documents: dict[str, str]) -> str:
    """The same documents by the first half of the same vectors: a leg of another order."""
    vectors = dense.encode(list(documents.values()))[:, : WIDTH // 2]
    return write_index(tmp_path / "half", vectors, documents, dense.fingerprint)


@pytest.fixture
def bm25_uri(tmp_path: Path, documents: dict[str, str]) -> str:
    """The same documents as an index of words."""
    table = pa.table({"id": list(documents), "text": list(documents.values())})
    corpus = Input(kind="corpus", uri="docs", fingerprint="c")
    build_text_index([table], str(tmp_path / "bm25"), corpus=corpus, probes=0)
    return str(tmp_path / "bm25")


@pytest.fixture
def sparse_uri(tmp_path: Path, sparse: SmallSparse, documents: dict[str, str]) -> str:
    """The same documents as an inverted index of the small sparse model."""
    weights = sparse.post(sparse.core(sparse.pre(list(documents.values()))))
    weights.sort_indices()
    rows = [slice(*ends) for ends in pairwise(weights.indptr)]
    embeddings = Folder(tmp_path / "sparse")
    table = pa.table(
        {
            "id": list(documents),
            "terms": [weights.indices[row].astype(np.int32) for row in rows],
            "weights": [weights.data[row].astype(np.float32) for row in rows],
        }
    )
    model = Input(kind="model", uri="models/s", fingerprint=sparse.fingerprint)
    shard = write_table(embeddings, "shards/0.parquet", table)
    details = {"dimension": weights.shape[1], "similarity_fn_name": "dot"}
    manifest = Manifest(kind="embeddings", inputs=(model,), shards=(shard,), details=details)
    write_manifest(embeddings, manifest)
    build_index(embeddings.uri, str(tmp_path / "inverted"), kind="inverted", probes=0)
    return str(tmp_path / "inverted")


@pytest.fixture
def foreign_uri(tmp_path: Path, dense: SmallDense, documents: dict[str, str]) -> str:
    """The same vectors, said to be by a model that is not served."""
    vectors = dense.encode(list(documents.values()))
    return write_index(tmp_path / "foreign", vectors, documents, "another-fingerprint")


@pytest.fixture
def open_searcher(directory: Directory) -> Callable[..., Searcher]:
    """Return a function that opens a searcher over indexes by name."""

    def opened(models: Directory | None = None, **indexes: Any) -> Searcher:
        settings = {
            name: IndexSettings(legs=legs if isinstance(legs, dict) else {"dense": legs})
            for name, legs in indexes.items()
        }
        return Searcher(open_generations(settings), models or directory)

    return opened
