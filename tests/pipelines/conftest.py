"""A part of the bundled corpus, encoded once without Ray, for the jobs that come after encoding."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.corpus import Columns, cut_into_pieces, find_files, scan_corpus
from raybert.encoders import DenseEncoder
from raybert.evaluation import read_qrels


@dataclass(frozen=True)
class Demo:
    """Files of a small retrieval task, and its documents' embeddings."""

    docs: Path
    queries: Path
    qrels: Path
    embeddings: Path


@pytest.fixture(scope="session")
def load_job(root: Path) -> Callable[[str], ModuleType]:
    """Return a function that loads a job file as a module."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"pipelines_{name}", root / "pipelines" / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def demo(root: Path, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """Forty queries of the bundled corpus, their answers, and 110 other documents."""
    folder = tmp_path_factory.mktemp("demo")
    bundled = root / "data" / "demo"
    qrels = dict(list(read_qrels(str(bundled / "qrels.tsv")).items())[:40])
    wanted = {document for judged in qrels.values() for document in judged}
    docs = pq.read_table(bundled / "docs.parquet")
    flags = [identifier in wanted for identifier in docs["id"].to_pylist()]
    others = docs.filter([not flag for flag in flags]).slice(0, 110)
    docs = pa.concat_tables([docs.filter(flags), others])
    queries = pq.read_table(bundled / "queries.parquet")
    queries = queries.filter([query in qrels for query in queries["id"].to_pylist()])
    pq.write_table(docs, folder / "docs.parquet")
    pq.write_table(queries, folder / "queries.parquet")
    lines = [f"{q}\t0\t{d}\t{r:g}" for q, judged in qrels.items() for d, r in judged.items()]
    (folder / "qrels.tsv").write_text("\n".join(lines), encoding="utf-8")
    _encode(folder / "docs.parquet", minilm, folder / "embeddings")
    return Demo(
        folder / "docs.parquet",
        folder / "queries.parquet",
        folder / "qrels.tsv",
        folder / "embeddings",
    )


@pytest.fixture(scope="session")
def query_embeddings(demo: Demo, minilm: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The embeddings of the queries, for jobs that compare two sides."""
    out = tmp_path_factory.mktemp("queries") / "embeddings"
    _encode(demo.queries, minilm, out)
    return str(out)


def _encode(docs: Path, model: Path, out: Path) -> None:
    encoder = DenseEncoder(model, device="cpu")
    table = pq.read_table(docs)
    vectors: Any = encoder.encode_document(table["text"].to_pylist())
    width = vectors.shape[1]
    columns = {
        "id": table["id"].combine_chunks(),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), width),
    }
    shard = write_table(Folder(out), "shards/00000.parquet", pa.table(columns))
    scan = scan_corpus(cut_into_pieces(find_files([str(docs)])), Columns())
    write_manifest(
        Folder(out),
        Manifest(
            kind="embeddings",
            settings={
                "corpus": [str(docs)],
                "text_column": "text",
                "id_column": "id",
                "truncate_dim": None,
            },
            shards=(shard,),
            inputs=(
                Input(kind="corpus", uri=str(docs), fingerprint=scan.fingerprint),
                Input(kind="model", uri=str(model), fingerprint=encoder.fingerprint),
            ),
            details={"dimension": width, "similarity_fn_name": "cosine"},
        ),
    )
