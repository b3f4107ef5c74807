"""A switch of index generations, a roll-back and upserts under load: what failed, how long it took.

    python tests/benchmarks/drill_rollout.py --model DIR --clients 8 --seconds 30

Two generations of one corpus (flat and hnsw) are served on a real socket, without Ray; clients ask
all the time while the generation is switched and rolled back in turn and documents are upserted
and looked for in a live index beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import tempfile
import threading
import time
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import uvicorn

from raybert import DenseEncoder
from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.index.generations import Generations
from raybert.serving import (
    Desk,
    Directory,
    Embedder,
    GatewaySettings,
    IndexSettings,
    ModelSettings,
    Searcher,
    build_gateway,
    open_generations,
)

TEXTS = [f"{thing} of {place}" for thing in ("capital", "river", "king", "sea") for place in (
    "France", "Germany", "Spain", "Poland", "Italy", "Norway", "Greece", "Chad", "Peru", "Japan"
)]  # fmt: skip


class Tally:
    """What the clients saw."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.failures: list[str] = []
        self.generations: set[str] = set()
        self.took: list[float] = []
        self.upserts = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", required=True, help="folder of a dense model")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raybert-rollout-") as folder:
        generations = two_generations(folder, DenseEncoder(arguments.model))
        url, stop = serve(arguments.model, f"{folder}/faq", f"{folder}/live")
        tally = asyncio.run(drill(url, generations, arguments.clients, arguments.seconds))
        stop()
    report(tally)
    if tally.failures:
        raise SystemExit(f"{len(tally.failures)} failures, the first: {tally.failures[0]}")


def two_generations(folder: str, encoder: DenseEncoder) -> Generations:
    """Write flat and hnsw generations of the corpus, and a live index, all by one model."""
    vectors = np.asarray(encoder.encode(TEXTS), dtype=np.float32)
    embeddings = Folder(f"{folder}/embeddings")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    ids = [f"d{at:03d}" for at in range(len(TEXTS))]
    shard = write_table(embeddings, "shards/0.parquet", pa.table({"id": ids, "vector": column}))
    model = Input(kind="model", uri=str(encoder.folder), fingerprint=encoder.fingerprint)
    write_manifest(embeddings, Manifest(kind="embeddings", inputs=(model,), shards=(shard,)))
    generations = Generations(f"{folder}/faq")
    for kind in ("flat", "hnsw"):
        payload = [pa.table({"id": ids, "text": TEXTS})]
        generations.build_next(embeddings.uri, kind=kind, documents=payload)
    generations.switch("g1")
    live = Generations(f"{folder}/live")
    live.begin_live(model=model, dimension=vectors.shape[1], encoding={"text_column": "text"})
    live.switch("g1")
    return generations


def serve(model: str, faq: str, live: str) -> tuple[str, Any]:
    """Serve both indexes on a free port; return the address and what stops it."""
    models = Directory(Embedder.open({"model": ModelSettings(path=model)}, threads=1))
    indexes = {name: IndexSettings(legs={"dense": uri}) for name, uri in
               {"faq": faq, "live": live}.items()}  # fmt: skip
    searcher = Searcher(open_generations(indexes), models)
    asyncio.run(searcher.pin())
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = build_gateway(Desk(GatewaySettings(), models, searcher))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)

    def stop() -> None:
        server.should_exit = True
        thread.join()

    return f"http://127.0.0.1:{listening.getsockname()[1]}", stop


async def drill(url: str, generations: Generations, clients: int, seconds: float) -> Tally:
    """Ask, switch, roll back and upsert until the time is over."""
    tally, over = Tally(), asyncio.Event()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        work = [asyncio.create_task(ask(client, tally, over)) for _ in range(clients)]
        work.append(asyncio.create_task(write(client, tally, over)))
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for change in (lambda: generations.switch("g2"), generations.roll_back):
                await swap(client, change, tally)
        over.set()
        await asyncio.gather(*work)
    return tally


async def swap(client: httpx.AsyncClient, change: Any, tally: Tally) -> None:
    """Switch or roll back, and wait until an answer comes from there."""
    current = (await asyncio.to_thread(change)).legs["dense"].fingerprint
    began = time.perf_counter()
    while await search(client, tally, "faq", "river of Spain") != current:
        if time.perf_counter() - began > 60:
            tally.failures.append("a switch was not taken up within 60 s")
            return
        await asyncio.sleep(0.02)
    tally.took.append(time.perf_counter() - began)
    await asyncio.sleep(0.5)


async def ask(client: httpx.AsyncClient, tally: Tally, over: asyncio.Event) -> None:
    at = 0
    while not over.is_set():
        at += 1
        await search(client, tally, "faq", TEXTS[at % len(TEXTS)], TEXTS[at % len(TEXTS)])


async def write(client: httpx.AsyncClient, tally: Tally, over: asyncio.Event) -> None:
    """Upsert a document and look for it, over and over."""
    while not over.is_set():
        text = f"{TEXTS[tally.upserts % len(TEXTS)]} {tally.upserts}"
        row = {"id": f"u{tally.upserts}", "text": text}
        answer = await client.post("/v1/indexes/live/documents", json={"documents": [row]})
        if answer.status_code != 200:
            tally.failures.append(f"upsert: {answer.status_code} {answer.text}")
        await search(client, tally, "live", text, text)
        tally.upserts += 1


async def search(
    client: httpx.AsyncClient, tally: Tally, index: str, query: str, best: str | None = None
) -> str:
    """Ask; the best hit must have the text asked for. Return the generation that answered."""
    began = time.perf_counter()
    body = {"index": index, "query": query, "top_k": 3, "explain": True}
    answer = await client.post("/v1/search", json=body)
    tally.seconds.append(time.perf_counter() - began)
    if answer.status_code != 200:
        tally.failures.append(f"{index}: {answer.status_code} {answer.text}")
        return ""
    found = answer.json()
    if best is not None and found["hits"][0]["text"] != best:
        tally.failures.append(f"{index}: {query!r} was answered by {found['hits'][0]['text']!r}")
    if index == "faq":
        tally.generations.add(found["explain"]["generation"])
    return str(found["explain"]["generation"])


def report(tally: Tally) -> None:
    p50, p99 = np.percentile(tally.seconds, [50, 99]) * 1000
    print(
        f"{len(tally.seconds)} searches, {tally.upserts} upserts each found by the next search, "
        f"{len(tally.failures)} failures; p50 {p50:.1f} ms, p99 {p99:.1f} ms\n"
        f"{len(tally.took)} switches over {len(tally.generations)} generations, taken up in "
        f"{np.median(tally.took):.2f} s (median), {max(tally.took):.2f} s (longest)"
    )


if __name__ == "__main__":
    main()
