"""Searching: query texts in, rankings out, by the model an index is pinned to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from raybert.encoders import CrossEncoder, DenseEncoder, open_encoder
from raybert.errors import ArtifactError, ModelError
from raybert.evaluation.metrics import ranked
from raybert.fusion import Place, reciprocal_rank
from raybert.index import Index
from raybert.modules import locate_model
from raybert.records import TEXT, Hit, Ranking

_QUERIES_AT_ONCE = 4096


def encoder_of(index: Index, *, model: str | None = None, device: str = "auto") -> DenseEncoder:
    """Open the encoder whose vectors an index holds.

    Args:
        index: the index.
        model: where the model lies now; where it lay when the corpus was encoded if None.
        device: where to compute.

    Raises:
        ArtifactError: the model that lies there is another one.
        ModelError: it cannot be read, or gives no dense vectors.
    """
    encoder = open_encoder(locate_model(model or index.model_uri), device=device)
    if encoder.fingerprint != index.model_fingerprint:
        raise ArtifactError(
            f"model {encoder.folder}: {encoder.fingerprint}; the index was made by the model "
            f"{index.model_uri} ({index.model_fingerprint})"
        )
    if not isinstance(encoder, DenseEncoder):
        raise ModelError(f"model {encoder.folder}: gives no dense vectors")
    return encoder


def open_reranker(model: str, *, device: str = "auto") -> CrossEncoder:
    """Open a cross-encoder that can order documents.

    Raises:
        ModelError: it is no cross-encoder with one label.
    """
    reranker = open_encoder(locate_model(model), device=device)
    if not isinstance(reranker, CrossEncoder) or reranker.num_labels != 1:
        raise ModelError(f"model {model}: no cross-encoder with one label")
    return reranker


def search(
    queries: Mapping[str, str], index: Index, encoder: DenseEncoder, top_k: int
) -> list[Ranking]:
    """Rank an index for every query: text by query id in, one ranking a query out."""
    truncate_dim = index.settings.get("truncate_dim")
    ids, texts = list(queries), list(queries.values())
    found: list[list[Hit]] = []
    for start in range(0, len(texts), _QUERIES_AT_ONCE):
        part = texts[start : start + _QUERIES_AT_ONCE]
        found += index.search(encoder.encode_query(part, truncate_dim=truncate_dim), top_k)
    return [Ranking(query, tuple(hits)) for query, hits in zip(ids, found, strict=True)]


def fuse(
    legs: Mapping[str, Sequence[Ranking]], top_k: int
) -> tuple[list[Ranking], dict[tuple[str, str], Mapping[str, Place]]]:
    """Join the rankings of several legs by reciprocal rank; one leg keeps its own scores.

    Returns:
        The rankings, and by (query id, document id) the place each leg gave the document.
    """
    rankings: list[Ranking] = []
    places: dict[tuple[str, str], Mapping[str, Place]] = {}
    for parts in zip(*legs.values(), strict=True):
        query = parts[0].query_id
        by_leg = {leg: part.hits for leg, part in zip(legs, parts, strict=True)}
        fused = reciprocal_rank(by_leg, top_k=top_k)
        places |= {(query, hit.id): hit.places for hit in fused}
        hits = tuple(hit.hit for hit in fused) if len(legs) > 1 else parts[0].hits
        rankings.append(Ranking(query, hits))
    return rankings, places


def rerank(
    rankings: Sequence[Ranking], queries: Mapping[str, str], index: Index, reranker: CrossEncoder
) -> list[Ranking]:
    """Order every query's hits by a cross-encoder; all pairs are scored in one pass.

    Raises:
        ArtifactError: the index keeps no texts.
    """
    column = str(index.settings.get("text_column") or TEXT)
    if column not in index.documents.columns:
        raise ArtifactError(f"the index keeps no column {column!r}: build it with documents")
    pairs = [
        (queries[ranking.query_id], str(document[column]))
        for ranking in rankings
        for document in index.documents.take([hit.id for hit in ranking])
    ]
    scores = iter(reranker.predict(pairs) if pairs else ())
    return [
        Ranking(ranking.query_id, ranked({hit.id: float(next(scores)) for hit in ranking}))
        for ranking in rankings
    ]
