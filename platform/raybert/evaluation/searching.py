"""Searching: query texts in, rankings out, by the model an index is pinned to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from raybert.artifacts import fingerprint_folder
from raybert.encoders import CrossEncoder, DenseEncoder, SparseEncoder, open_encoder
from raybert.errors import ArtifactError, InputError, ModelError
from raybert.evaluation.metrics import ranked
from raybert.fusion import RRF_K, Place, reciprocal_rank, weighted_scores
from raybert.index import Index
from raybert.modules import locate_model
from raybert.records import TEXT, Hit, Ranking

_QUERIES_AT_ONCE = 4096
_PAIRS_AT_ONCE = 4096
"""Between two looks at how far it has come."""
QueryEncoder: TypeAlias = DenseEncoder | SparseEncoder | None
"""What encodes queries; None where an index takes texts."""


def _unseen(_: int) -> None:
    """Show nobody how far it has come."""


def model_of(index: Index, models: Sequence[str]) -> str | None:
    """Return the one of several models that an index was made by; the first if none was."""
    if index.reads == "text" or not models:
        return None
    wanted = index.model_fingerprint
    found = (name for name in models if fingerprint_folder(locate_model(name)) == wanted)
    return next(found, models[0])


def encoder_of(index: Index, *, model: str | None = None, device: str = "auto") -> QueryEncoder:
    """Open the encoder whose vectors an index holds; None for an index of texts.

    Args:
        index: the index.
        model: where the model lies now; where it lay when the corpus was encoded if None.
        device: where to compute.

    Raises:
        ArtifactError: the model that lies there is another one.
        ModelError: it cannot be read, or gives no vectors of the index's kind.
    """
    if index.reads == "text":
        return None
    encoder = open_encoder(locate_model(model or index.model_uri), device=device)
    if encoder.fingerprint != index.model_fingerprint:
        raise ArtifactError(
            f"model {encoder.folder}: {encoder.fingerprint}; the index was made by the model "
            f"{index.model_uri} ({index.model_fingerprint})"
        )
    if index.reads == "sparse" and isinstance(encoder, SparseEncoder):
        return encoder
    if index.reads == "dense" and isinstance(encoder, DenseEncoder):
        return encoder
    raise ModelError(f"model {encoder.folder}: gives no {index.reads} vectors")


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
    queries: Mapping[str, str | bytes],
    index: Index,
    encoder: QueryEncoder,
    top_k: int,
    filter: Mapping[str, Any] | None = None,
    advance: Callable[[int], object] = _unseen,
) -> list[Ranking]:
    """Rank an index for every query: text by query id in, one ranking a query out.

    Args:
        queries: text by query id; for a model of images also the bytes of one.
        index: the index.
        encoder: as `encoder_of` opened it for this index.
        top_k: hits a query.
        filter: conditions on the index's columns that hits fulfil.
        advance: told of each batch how many queries it had.

    Raises:
        InputError: the filter names a column that is not there; an image for an index whose model
            reads texts only.
    """
    ids, texts = list(queries), list(queries.values())
    found: list[list[Hit]] = []
    for start in range(0, len(texts), _QUERIES_AT_ONCE):
        part = texts[start : start + _QUERIES_AT_ONCE]
        found += index.search(_encoded(index, encoder, part), top_k, filter)
        advance(len(part))
    return [Ranking(query, tuple(hits)) for query, hits in zip(ids, found, strict=True)]


def _encoded(index: Index, encoder: QueryEncoder, texts: list[Any]) -> Any:
    if any(isinstance(text, bytes) for text in texts):
        known = encoder is not None and "image" in encoder.capabilities
        if not known:
            raise InputError(f"an image is asked of an index of {index.reads}; it knows texts only")
    if encoder is None:
        return texts
    if isinstance(encoder, SparseEncoder):
        return encoder.encode_query(texts)
    return encoder.encode_query(texts, truncate_dim=index.settings.get("truncate_dim"))


def fuse(
    legs: Mapping[str, Sequence[Ranking]],
    top_k: int,
    *,
    fusion: str = "rrf",
    weights: Mapping[str, float] | None = None,
    rrf_k: float = RRF_K,
    normalization: str = "minmax",
) -> tuple[list[Ranking], dict[tuple[str, str], Mapping[str, Place]]]:
    """Join the rankings of several legs; one leg keeps its own scores.

    Args:
        legs: rankings of the same queries by leg.
        top_k: hits a query to keep.
        fusion: `rrf`, by reciprocal rank, or `weighted`, by normalised scores.
        weights: weight of each leg, 1 where none is given.
        rrf_k: rank constant of `rrf`.
        normalization: of `weighted`: minmax, three_sigma or none.

    Returns:
        The rankings, and by (query id, document id) the place each leg gave the document.
    """
    rankings: list[Ranking] = []
    places: dict[tuple[str, str], Mapping[str, Place]] = {}
    for parts in zip(*legs.values(), strict=True):
        query = parts[0].query_id
        by_leg = {leg: part.hits for leg, part in zip(legs, parts, strict=True)}
        if fusion == "weighted":
            fused = weighted_scores(
                by_leg, weights=weights, normalization=normalization, top_k=top_k
            )
        else:
            fused = reciprocal_rank(by_leg, k=rrf_k, weights=weights, top_k=top_k)
        places |= {(query, hit.id): hit.places for hit in fused}
        hits = tuple(hit.hit for hit in fused) if len(legs) > 1 else parts[0].hits
        rankings.append(Ranking(query, hits))
    return rankings, places


def rerank(
    rankings: Sequence[Ranking],
    queries: Mapping[str, str],
    index: Index,
    reranker: CrossEncoder,
    advance: Callable[[int], object] = _unseen,
) -> list[Ranking]:
    """Order every query's hits by a cross-encoder; some thousand pairs are scored together.

    Args:
        rankings: hits by query.
        queries: text by query id.
        index: where the hits' texts are kept.
        reranker: as `open_reranker` opened it.
        advance: told now and then how many pairs more were scored.

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
    scored: list[float] = []
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        part = pairs[start : start + _PAIRS_AT_ONCE]
        scored += reranker.predict(part).tolist()
        advance(len(part))
    scores = iter(scored)
    return [
        Ranking(ranking.query_id, ranked({hit.id: next(scores) for hit in ranking}))
        for ranking in rankings
    ]
