"""A run: rankings of queries as an artifact, in Parquet and in TREC's own format."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from raybert.artifacts import (
    Folder,
    Input,
    Manifest,
    Shard,
    hash_bytes,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from raybert.fusion import Place
from raybert.records import Hit, Ranking

Places: TypeAlias = Mapping[tuple[str, str], Mapping[str, Place]]
"""By (query id, document id): the place each leg gave the document."""
RANKING = "ranking.parquet"
TREC = "run.trec"


def write_run(
    out: str,
    rankings: Sequence[Ranking],
    *,
    settings: dict[str, Any],
    inputs: Sequence[Input],
    details: dict[str, Any] | None = None,
    mlflow_run: str | None = None,
    places: Places | None = None,
    tag: str = "raybert",
) -> Manifest:
    """Write rankings as `ranking.parquet` and `run.trec`.

    The columns are query_id, rank, id and score; with `places` also legs, a list of leg, rank and
    score: where each of several retrievers put the document.
    """
    folder = Folder(out)
    table = _table(rankings)
    if places is not None:
        table = table.append_column("legs", _legs(rankings, places))
    shard = write_table(folder, RANKING, table)
    trec = "".join(f"{line}\n" for line in trec_lines(rankings, tag)).encode()
    folder.write_bytes(TREC, trec)
    text = Shard(file=TREC, rows=shard.rows, bytes=len(trec), checksum=hash_bytes(trec))
    return write_manifest(
        folder,
        Manifest(
            kind="run",
            settings=settings,
            rows=shard.rows,
            inputs=tuple(inputs),
            shards=(shard, text),
            details={"queries": len(rankings), **(details or {})},
            mlflow_run=mlflow_run,
        ),
    )


def read_run(uri: str) -> list[Ranking]:
    """Read the rankings of a run artifact, in the order they were written.

    Raises:
        ArtifactError: no run there, or its file is damaged.
    """
    folder = Folder(uri)
    manifest = read_manifest(folder, kind="run")
    shard = next(shard for shard in manifest.shards if shard.file == RANKING)
    hits: dict[str, list[Hit]] = {}
    for row in read_table(folder, shard).to_pylist():
        hits.setdefault(row["query_id"], []).append(Hit(row["id"], row["score"]))
    return [Ranking(query, tuple(found)) for query, found in hits.items()]


def trec_lines(rankings: Iterable[Ranking], tag: str) -> Iterator[str]:
    """Yield the lines of a TREC run.

    TREC's tools sort by score alone and settle ties in their own way. Equal scores are therefore
    written a last float32 digit apart, so that every tool reads the order meant here.
    """
    for ranking in rankings:
        below = np.float32(np.inf)
        for rank, hit in enumerate(ranking, start=1):
            below = min(np.float32(hit.score), np.nextafter(below, np.float32(-np.inf)))
            score = np.format_float_positional(below, unique=True, trim="-")
            yield f"{_word(ranking.query_id)} Q0 {_word(hit.id)} {rank} {score} {tag}"


def _word(identifier: str) -> str:
    """Write blanks as %20: a TREC line is split at them."""
    return re.sub(r"\s", lambda blank: f"%{ord(blank.group()):02X}", identifier)


def _table(rankings: Sequence[Ranking]) -> pa.Table:
    rows = [
        (ranking.query_id, rank, hit.id, hit.score)
        for ranking in rankings
        for rank, hit in enumerate(ranking, start=1)
    ]
    queries, ranks, ids, scores = zip(*rows, strict=True) if rows else ((), (), (), ())
    return pa.table(
        {
            "query_id": pa.array(queries, pa.string()),
            "rank": pa.array(ranks, pa.int32()),
            "id": pa.array(ids, pa.string()),
            "score": pa.array(scores, pa.float64()),
        }
    )


def _legs(rankings: Sequence[Ranking], places: Places) -> pa.Array:
    rows = [
        [
            {"leg": leg, "rank": place.rank, "score": place.score}
            for leg, place in places.get((ranking.query_id, hit.id), {}).items()
        ]
        for ranking in rankings
        for hit in ranking
    ]
    place_type = pa.struct([("leg", pa.string()), ("rank", pa.int32()), ("score", pa.float64())])
    return pa.array(rows, pa.list_(place_type))
