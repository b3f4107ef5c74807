"""BM25 over texts: bm25s cuts words and weighs them, the inverted file searches.

A document's weight for a word is Lucene's BM25 (k1 1.5, b 0.75) with the statistics of the whole
corpus, so that shards rank as one index; a query's is how often the word stands in it. Words are
runs of two or more letters, digits or underscores, in lower case; no word is left out or stemmed.
Shapes: Q queries, N documents, V words.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from raybert.artifacts import Input
from raybert.errors import InputError
from raybert.index.metric import Metric
from raybert.index.queries import SparseQueries, TextQueries
from raybert.index.source import Ids
from raybert.records import ID

WORDS = {"pattern": r"(?u)\b\w\w+\b", "lower": True, "method": "lucene", "k1": 1.5, "b": 0.75}
"""How words are cut and weighed, as the manifest says it."""
_BLOCK_ROWS = 65536


@dataclass(frozen=True, slots=True)
class Texts:
    """The documents of a corpus, weighed; a `Source` of sparse rows.

    Args:
        corpus: the corpus, as an index names it.
        encoding: settings, such as `text_column`.
        ids: ids of all documents.
        weights: [N, V] compressed rows.
        words: the V words.
    """

    corpus: Input
    encoding: dict[str, Any]
    ids: Ids
    weights: Any
    words: tuple[str, ...]

    @classmethod
    def of(cls, tables: Iterable[pa.Table], column: str, corpus: Input) -> Texts:
        """Cut and weigh all documents; memory holds their word numbers, not the texts.

        Args:
            tables: tables with a column `id` and the text column.
            column: name of the text column.
            corpus: where the texts are from.

        Raises:
            InputError: no such column, no document, or no word in any.
        """
        known: dict[str, int] = {}
        ids: list[Any] = []
        numbers: list[list[int]] = []
        for table in tables:
            if column not in table.column_names:
                there = ", ".join(table.column_names)
                raise InputError(f"{corpus.uri}: no text column {column!r}; there are {there}")
            ids.append(pc.cast(table[ID], pa.large_string()).combine_chunks())
            for words in cut_words(table[column].to_pylist()):
                numbers.append([known.setdefault(word, len(known)) for word in words])
        if not known:
            raise InputError(f"{corpus.uri}: no word in {len(numbers)} documents")
        joined = pa.chunked_array(ids, pa.large_string()).combine_chunks()
        encoding = {"text_column": column}
        return cls(corpus, encoding, joined, _weighed(numbers, len(known)), tuple(known))

    @property
    def rows(self) -> int:
        """Number of documents."""
        return int(self.weights.shape[0])

    @property
    def fingerprint(self) -> str:
        """The corpus's fingerprint."""
        return self.corpus.fingerprint

    @property
    def metric(self) -> str:
        """BM25 is a sum of products."""
        return "dot"

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The corpus."""
        return (self.corpus,)

    def tables(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[Ids, Any]]:
        """Yield ids and rows from `start` to `stop`."""
        end = self.rows if stop is None else stop
        for at in range(start, end, _BLOCK_ROWS):
            until = min(at + _BLOCK_ROWS, end)
            yield self.ids.slice(at, until - at), self.weights[at:until]


def cut_words(texts: list[Any]) -> list[list[str]]:
    """Return the words of each text; a text that is None has none."""
    import bm25s

    found: list[list[str]] = bm25s.tokenize(
        [text or "" for text in texts],
        lower=bool(WORDS["lower"]),
        token_pattern=str(WORDS["pattern"]),
        stopwords=[],
        return_ids=False,
        show_progress=False,
    )
    return found


def words_file(words: Iterable[str]) -> memoryview:
    """Return the words as an Arrow file, in the order of their numbers."""
    sink = io.BytesIO()
    table = pa.table({"word": pa.array(words, pa.large_string())})
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getbuffer()


def open_words(data: bytes, settings: dict[str, Any], metric: Metric) -> TextQueries:
    """Return what reads the queries of an index with these words.

    Raises:
        InputError: the words were cut in another way than this version does.
    """
    if settings != WORDS:
        raise InputError(f"bm25 index with words cut by {settings}; this version cuts by {WORDS}")
    table = pa.ipc.open_file(pa.BufferReader(data)).read_all()
    numbers = {word: at for at, word in enumerate(table["word"].to_pylist())}

    def counted(texts: list[str]) -> Any:
        starts, places, counts = [0], [], []
        for words in cut_words(texts):
            own = Counter(numbers[word] for word in words if word in numbers)
            for place in sorted(own):
                places.append(place)
                counts.append(float(own[place]))
            starts.append(len(places))
        arrays = (np.array(counts, np.float32), np.array(places, np.int32), np.array(starts))
        return sparse.csr_array(arrays, shape=(len(texts), len(numbers)))

    return TextQueries(counted, SparseQueries(len(numbers), metric, "bm25"))


def _weighed(numbers: list[list[int]], words: int) -> Any:
    """Return the weights [N, V] of documents given as word numbers."""
    import bm25s

    engine = bm25s.BM25(method=str(WORDS["method"]), k1=WORDS["k1"], b=WORDS["b"])
    found = engine.build_index_from_ids(list(range(words)), numbers, show_progress=False)
    columns = (found["data"], found["indices"], found["indptr"])
    return sparse.csc_array(columns, shape=(len(numbers), words)).tocsr().astype(np.float32)
