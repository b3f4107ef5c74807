"""Why a sparse leg found a hit: the terms it shares with the query, by what each adds to the score.

A sparse score is a sum over the terms, so a search by one term alone gives that term's part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from raybert.records import ID
from raybert.serving.directory import Directory
from raybert.serving.generation import Leg
from raybert.serving.messages import SearchHit, SharedTerm

_QUERY_TERMS = 32
_SHOWN = 8


async def with_terms(
    hits: Sequence[SearchHit], legs: Mapping[str, Leg], rows: Mapping[str, Any], models: Directory
) -> list[SearchHit]:
    """Return the hits with the terms that mattered in each sparse leg.

    Args:
        hits: what was found.
        legs: the legs that were asked, by name.
        rows: the encoded query of each leg, `[1, V]` where the leg is sparse.
        models: the model stages; they know what the terms are called.
    """
    found: dict[str, dict[str, list[SharedTerm]]] = {hit.id: {} for hit in hits}
    for name, leg in legs.items():
        if leg.index.reads != "sparse" or name not in rows or not hits:
            continue
        for identifier, terms in (await _terms(leg, rows[name], list(found), models)).items():
            found[identifier][name] = terms
    return [replace(hit, terms=found[hit.id]) for hit in hits]


async def _terms(
    leg: Leg, row: csr_array, ids: list[str], models: Directory
) -> dict[str, list[SharedTerm]]:
    """Return the greatest parts of each hit's score in one leg, falling."""
    heaviest = np.argsort(-row.data, kind="stable")[:_QUERY_TERMS]
    terms, weights = row.indices[heaviest], row.data[heaviest]
    places = (np.arange(len(terms)), terms)
    alone = csr_array((weights, places), shape=(len(terms), row.shape[1]))
    lists = await leg.search_all(alone, len(ids), {ID: {"in": ids}})
    stage = await models.stage(leg.model.name)
    words = await stage.decode(leg.model.name, [[int(each)] for each in terms], False)
    # By cosine a lone term counts as 1, whatever its weight in the query.
    scales = weights / np.linalg.norm(row.data) if leg.index.metric.name == "cosine" else None
    parts: dict[str, list[SharedTerm]] = {}
    for at, (word, hits) in enumerate(zip(words, lists, strict=True)):
        scale = 1.0 if scales is None else float(scales[at])
        for hit in hits:
            parts.setdefault(hit.id, []).append(SharedTerm(word, hit.score * scale))
    return {
        each: sorted(found, key=lambda term: -term.score)[:_SHOWN] for each, found in parts.items()
    }
