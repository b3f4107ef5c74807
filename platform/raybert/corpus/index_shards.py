"""Indexes on Ray: shards built side by side, and searched side by side; results as in one process.

A task builds one shard from the rows it reads itself and writes its files, so the driver holds no
vector; an actor opens some shards and answers for them, and the driver merges the lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray

from raybert.artifacts import Folder, Input
from raybert.corpus.cluster import cluster_size, connect
from raybert.corpus.documents import read_documents
from raybert.corpus.encode import scan_pieces
from raybert.corpus.read import Columns
from raybert.corpus.scan import scan_corpus
from raybert.corpus.sources import cut_into_pieces, find_files
from raybert.devices import set_threads
from raybert.errors import ArtifactError
from raybert.index import Index, open_index
from raybert.index.build import EachShard
from raybert.index.filters import Filter
from raybert.index.queries import Queries
from raybert.index.search import merged
from raybert.index.shards import BuildShard, Built
from raybert.index.source import Embeddings
from raybert.records import Hit
from raybert.tracking import JobProgress


class CorpusTables:
    """The documents of a corpus as tables, read anew each time they are asked for.

    Args:
        corpus: files: paths, folders, globs.
        columns: where text and id stand.
    """

    def __init__(self, corpus: Sequence[str], columns: Columns) -> None:
        self._columns = columns
        self._pieces = cut_into_pieces(find_files(corpus))
        found = scan_corpus(self._pieces, columns, scan_pieces).fingerprint
        self.input = Input(kind="corpus", uri=",".join(corpus), fingerprint=found)

    def __iter__(self) -> Iterator[pa.Table]:
        return read_documents(self._pieces, self._columns)

    def of(self, encoded: Input) -> CorpusTables:
        """Return itself if it is the corpus that was encoded.

        Raises:
            ArtifactError: it is another.
        """
        if self.input.fingerprint == encoded.fingerprint:
            return self
        raise ArtifactError(
            f"corpus {self.input.uri}: is not what was encoded; run encode_corpus again, "
            "or give --corpus, or --no-documents"
        )


def each_on_ray(workers: int = 0) -> EachShard:
    """Return what builds shards as Ray tasks, `workers` at a time (0: one a core).

    For `build_index(each=…)`; the shards come in order, whichever is done first.
    """

    def each(build: Callable[[int], Built], numbers: Iterable[int]) -> Iterator[Built]:
        connect()
        at_once = workers or max(1, int(cluster_size()[0]))
        shared = ray.put(_anywhere(build))
        task = ray.remote(num_cpus=1, max_retries=3)(_build)
        waiting = list(numbers)
        running = [task.remote(shared, at) for at in waiting[:at_once]]
        for at in range(len(waiting)):
            ray.wait(running[at : at + at_once], num_returns=1)
            if len(running) < len(waiting):
                running.append(task.remote(shared, waiting[len(running)]))
            yield ray.get(running[at])

    return each


def with_progress(each: EachShard) -> EachShard:
    """Return what builds shards as `each` does, and shows how it goes."""

    def shown(build: Callable[[int], Built], numbers: Iterable[int]) -> Iterator[Built]:
        rows, waiting = 0, list(numbers)
        with JobProgress("build", len(waiting), "shards") as progress:
            for done, built in enumerate(each(build, waiting), 1):
                rows += len(built.ids)
                progress.reached(done, f"{rows / progress.seconds:,.0f} rows/s")
                yield built

    return shown


class SpreadIndex(Index):
    """An index whose shards are held by actors and searched side by side.

    Args:
        uri: its folder, one that every worker reaches.
        workers: actors; at most one a shard.
    """

    def __init__(self, uri: str, workers: int) -> None:
        whole = open_index(uri)
        super().__init__(whole.manifest, (), whole.documents, whole.reader)
        connect()
        count = max(1, min(workers, len(whole.documents.shards)))
        actor = ray.remote(num_cpus=1)(_Holder)
        place = Folder(uri).absolute
        self._holders = [
            actor.remote(place, list(range(at, len(whole.documents.shards), count)))
            for at in range(count)
        ]

    def search(
        self, queries: Queries, top_k: int = 10, filter: Filter | None = None
    ) -> list[list[Hit]]:
        """Return the best hits of every query, as `Index.search` does."""
        asked = ray.put(queries)
        lists = ray.get([each.search.remote(asked, top_k, filter) for each in self._holders])
        return [merged(parts, top_k) for parts in zip(*lists, strict=True)]


class _Holder:
    """An actor that holds some shards of an index."""

    def __init__(self, uri: str, shards: list[int]) -> None:
        set_threads(1)
        self._index = open_index(uri, only=shards)

    def search(self, queries: Any, top_k: int, filter: Filter | None) -> list[list[Hit]]:
        return self._index.search(queries, top_k, filter)


def _anywhere(build: Callable[[int], Built]) -> Callable[[int], Built]:
    """Return the step with addresses that mean the same in any working directory."""
    if not isinstance(build, BuildShard) or not isinstance(build.source, Embeddings):
        return build
    source = replace(build.source, folder=Folder(build.source.folder.absolute))
    return replace(build, folder=Folder(build.folder.absolute), source=source)


def _build(build: Callable[[int], Built], at: int) -> Built:
    set_threads(1)
    return build(at)
