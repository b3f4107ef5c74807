"""The apps of `serve/` on a real Ray Serve with the real MiniLM, and clients of them."""

from __future__ import annotations

import importlib.util
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import uvicorn

from raybert import DenseEncoder
from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.index import build_index
from raybert.index.generations import Generations

DOCUMENTS = {
    "paris": "Paris is the capital and largest city of France.",
    "berlin": "Berlin is the capital of Germany.",
    "bread": "Sourdough bread is made by fermenting dough with wild yeast.",
    "python": "Python is a programming language with dynamic types.",
    "whale": "The blue whale is the largest animal that has ever lived.",
    "engine": "A steam engine turns heat into mechanical work.",
    "violin": "The violin has four strings and is played with a bow.",
    "desert": "The Sahara is the largest hot desert in the world.",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def definition(root: Path) -> Callable[[str], ModuleType]:
    """Return a function that loads a file of `serve/` by its name."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(
            f"tried_{name}", root / "serve" / f"{name}.py"
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def encoder(minilm: Path) -> DenseEncoder:
    return DenseEncoder(minilm)


@pytest.fixture(scope="session")
def documents() -> dict[str, str]:
    return dict(DOCUMENTS)


@pytest.fixture(scope="session")
def index_uri(tmp_path_factory: pytest.TempPathFactory, encoder: DenseEncoder) -> str:
    """An index of eight documents made by the real MiniLM."""
    folder = tmp_path_factory.mktemp("serve")
    embeddings = Folder(folder / "embeddings")
    vectors = encoder.encode(list(DOCUMENTS.values()))
    flat = pa.array(vectors.reshape(-1), pa.float32())
    table = pa.table(
        {
            "id": pa.array(list(DOCUMENTS)),
            "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
            "content": pa.array(["-"] * len(DOCUMENTS)),
        }
    )
    manifest = Manifest(
        kind="embeddings",
        settings={"model": str(encoder.folder), "text_column": "text"},
        rows=len(DOCUMENTS),
        inputs=(
            Input(kind="corpus", uri="documents", fingerprint="c"),
            Input(kind="model", uri=str(encoder.folder), fingerprint=encoder.fingerprint),
        ),
        shards=(write_table(embeddings, "shards/00000.parquet", table),),
        details={"dimension": vectors.shape[1], "similarity_fn_name": "cosine"},
    )
    write_manifest(embeddings, manifest)
    payload = pa.table({"id": list(DOCUMENTS), "text": list(DOCUMENTS.values())})
    build_index(embeddings.uri, str(folder / "index"), shards=2, documents=[payload], probes=0)
    return str(folder / "index")


@pytest.fixture(scope="module")
def live_uri(tmp_path_factory: pytest.TempPathFactory, encoder: DenseEncoder) -> str:
    """An index name whose one generation is an empty live index of the real MiniLM."""
    generations = Generations(str(tmp_path_factory.mktemp("serve") / "live"))
    model = Input(kind="model", uri=str(encoder.folder), fingerprint=encoder.fingerprint)
    width = encoder.get_embedding_dimension()
    generations.begin_live(model=model, dimension=width, encoding={"text_column": "text"})
    generations.switch("g1")
    return generations.folder.uri


@pytest.fixture(scope="session")
def serve_http(ray_session: None) -> Iterator[str]:
    """Ray Serve's HTTP proxy on a free port, started once."""
    from ray import serve

    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


@pytest.fixture(scope="module")
def behind_uvicorn() -> Iterator[Callable[[Any], str]]:
    """Return a function that puts an ASGI app on a real socket, without Ray, and says where."""
    running: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def run(app: Any) -> str:
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        running.append((server, thread, listening))
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    yield run
    for server, thread, listening in running:
        server.should_exit = True
        thread.join()
        listening.close()


@pytest.fixture(scope="module")
def served(serve_http: str) -> Iterator[Callable[..., str]]:
    """Return a function that runs an application and says where; it is deleted afterwards."""
    from ray import serve

    names: list[str] = []

    def run(application: Any, name: str, route_prefix: str = "/") -> str:
        serve.run(application, name=name, route_prefix=route_prefix)
        names.append(name)
        return serve_http + route_prefix.rstrip("/")

    yield run
    for name in names:
        serve.delete(name)


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="session")
def ranked(encoder: DenseEncoder) -> Callable[[str], list[str]]:
    """Return a function that ranks the documents by plain arithmetic."""

    def rank(query: str) -> list[str]:
        vectors = encoder.encode(list(DOCUMENTS.values()))
        scores = vectors @ encoder.encode([query])[0]
        return [list(DOCUMENTS)[at] for at in np.argsort(-scores)]

    return rank
