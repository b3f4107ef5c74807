"""Known pairs given as texts: laid out as queries, a corpus without copies, who answers whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from raybert.artifacts import Folder, write_table
from raybert.corpus.read import Columns
from raybert.corpus.texts import read_texts
from raybert.records import ID

TEXT = "text"
LAID_OUT = Columns(TEXT, ID)
"""Columns of the files that are laid out."""


class TextPairs(NamedTuple):
    """Files of queries and corpus, and the ids of the texts that answer each query's id."""

    queries: str
    corpus: str
    known: dict[str, dict[str, float]]


def lay_out_pairs(
    pairs: Sequence[str],
    anchor_column: str,
    positive_column: str,
    corpus: Sequence[str] | None,
    columns: Columns,
    out: str,
) -> TextPairs:
    """Write the anchors, and the corpus with the positives, each text once, under `out`/texts.

    Args:
        pairs: files with a pair a row.
        anchor_column: the column of the queries.
        positive_column: the column of the texts that answer them.
        corpus: files of more texts to mine in, if any.
        columns: where id and text stand in those.
        out: the job's folder.

    Raises:
        InputError: no such file or column, or a row without a text.
    """
    anchors = read_texts(pairs, Columns(anchor_column, ""))
    positives = read_texts(pairs, Columns(positive_column, ""))
    texts = {} if corpus is None else read_texts(corpus, columns)
    by_text: dict[str, str] = {}
    for identifier, text in [*texts.items(), *positives.items()]:
        by_text.setdefault(text, identifier)
    queries: dict[str, str] = {}
    known: dict[str, dict[str, float]] = {}
    for row, anchor in anchors.items():
        query = queries.setdefault(anchor, row)
        known.setdefault(query, {})[by_text[positives[row]]] = 1.0
    folder = Folder(out)
    files = []
    for name, rows in (("queries", queries), ("corpus", by_text)):
        table = pa.table({ID: list(rows.values()), TEXT: pa.array(list(rows), pa.large_string())})
        write_table(folder, f"texts/{name}.parquet", table)
        files.append(folder.path(f"texts/{name}.parquet"))
    return TextPairs(files[0], files[1], known)
