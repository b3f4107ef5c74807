"""Ray Serve at saturation while replicas are killed, a model is promoted and documents written.

    python tests/benchmarks/drill_serving.py --model DIR --seconds 600

`serve/search.py` runs with a deployment for each stage, two replicas of each. Clients embed,
search, rerank and hold every answer against one computed beforehand; meanwhile replicas are killed
(-9) one by one, the model is promoted and rolled back, documents are upserted and looked for. An
attempt that fails is sent again: it may fail only shortly after a kill, and never three times.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import importlib.util
import itertools
import os
import random
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import torch

from raybert import CrossEncoder, DenseEncoder
from raybert.artifacts import Folder, Input, Manifest, write_manifest, write_table
from raybert.index.generations import Generations
from raybert.settings import set_environment
from raybert.tracking import Registry

ROOT = Path(__file__).parents[2]
TEXTS = [f"{thing} of {place}" for thing in ("capital", "river", "king", "sea") for place in (
    "France", "Germany", "Spain", "Poland", "Italy", "Norway", "Greece", "Chad", "Peru", "Japan"
)]  # fmt: skip
STAGES = ("Gateway", "EmbedStage", "SearchStage", "RerankStage")
AFTER_A_KILL_S = 15.0
"""Seconds after a kill in which an attempt may fail: Serve may still send requests there."""
NEAR = 1e-4
"""Greatest difference of a number from the one computed beforehand."""


@dataclass(slots=True)
class Tally:
    """What the clients saw."""

    done: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)
    taken_up: list[float] = field(default_factory=list)
    memory: list[tuple[float, dict[str, float]]] = field(default_factory=list)

    def say(self, what: str) -> None:
        """Print a line as it happens."""
        print(f"{time.strftime('%X')} {what}", flush=True)

    def blame(self, what: str) -> None:
        """Note a wrong answer."""
        self.wrong.append(what)
        self.say(f"WRONG {what}")

    def excused(self) -> bool:
        """Tell whether a replica was killed just now."""
        return bool(self.kills) and time.perf_counter() - self.kills[-1][0] < AFTER_A_KILL_S


@dataclass(frozen=True, slots=True)
class Truth:
    """The right answers, by both versions of the model, in the order of `TEXTS`."""

    vectors: tuple[np.ndarray, np.ndarray]
    found: list[list[str]]
    ranks: np.ndarray
    prints: tuple[str, str]


def prepare(folder: Path, model: str) -> Truth:
    """Register two versions of a model, index the texts by the first, and compute all answers."""
    first = DenseEncoder(model, device="cpu")
    with torch.no_grad():
        second = DenseEncoder(model, device="cpu")
        torch.manual_seed(3)
        for weights in second.model.parameters():
            weights.add_(torch.randn_like(weights) * 0.05 * weights.std())
    torch.manual_seed(0)
    cross = CrossEncoder(str(model), device="cpu")
    with torch.no_grad():
        for name, weights in cross.model.named_parameters():
            weights.mul_(30 if "classifier" in name else 1)  # a new head scores all alike
    cross.save_pretrained(folder / "cross")
    registry = Registry()
    for version in (first, second):
        saved = version.save_pretrained(folder / f"v{len(registry.versions())}")
        registry.register("minilm", saved)
    registry.promote("minilm", 1)
    first, second = (DenseEncoder(str(registry.fetch("minilm", each))) for each in (1, 2))
    vectors = np.asarray(first.encode(TEXTS), np.float32), np.asarray(second.encode(TEXTS))
    assert np.abs(vectors[0] - vectors[1]).max(axis=1).min() > 100 * NEAR
    index(folder, first, vectors[0])
    order = np.argsort(-(vectors[0] @ vectors[0].T), axis=1, kind="stable")[:, :3]
    pairs = [(query, text) for query in TEXTS for text in TEXTS]
    scores = np.asarray(CrossEncoder(str(folder / "cross")).predict(pairs))
    return Truth(
        vectors,
        [[f"d{at:03d}" for at in row] for row in order],
        scores.reshape(len(TEXTS), len(TEXTS)),
        (first.fingerprint, second.fingerprint),
    )


def index(folder: Path, encoder: DenseEncoder, vectors: np.ndarray) -> None:
    """Write an index of the texts and an empty live index, both pinned to one model."""
    embeddings = Folder(f"{folder}/embeddings")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    ids = [f"d{at:03d}" for at in range(len(TEXTS))]
    shard = write_table(embeddings, "shards/0.parquet", pa.table({"id": ids, "vector": column}))
    model = Input(kind="model", uri=str(encoder.folder), fingerprint=encoder.fingerprint)
    write_manifest(embeddings, Manifest(kind="embeddings", inputs=(model,), shards=(shard,)))
    payload = pa.table({"id": ids, "text": TEXTS})
    Generations(f"{folder}/faq").build_next(embeddings.uri, kind="flat", documents=[payload])
    live = Generations(f"{folder}/live")
    live.begin_live(model=model, dimension=vectors.shape[1], encoding={"text_column": "text"})
    for name in ("faq", "live"):
        Generations(f"{folder}/{name}").switch("g1")


def start(folder: Path, replicas: int, port: int) -> None:
    """Run `serve/search.py` on a Ray of its own, every stage a deployment."""
    import ray
    from ray import serve

    spec = importlib.util.spec_from_file_location("search", ROOT / "serve" / "search.py")
    assert spec is not None
    assert spec.loader is not None
    definition = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(definition)
    stage = {"replicas": replicas, "cpus": 0.1, "threads": 1}
    args = {
        "models": {"minilm": "models:/minilm@champion"},
        "rerankers": {"cross": str(folder / "cross")},
        "indexes": {name: f"{folder}/{name}" for name in ("faq", "live")},
        "together": False,
        "gateway": {"limits": {"max_concurrent_requests": 10}},
        **dict.fromkeys(("edge", "embedder", "searcher", "reranker"), stage),
    }
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(definition.build(definition.SearchApp.model_validate(args)), name="drill")


class Clients:
    """Asks, and holds each answer against the truth."""

    def __init__(self, client: httpx.AsyncClient, truth: Truth, tally: Tally) -> None:
        self.client, self.truth, self.tally = client, truth, tally
        self.over = asyncio.Event()
        self.numbers: Iterator[int] = itertools.count()

    async def post(self, route: str, body: dict[str, Any]) -> Any:
        """Send until it is answered; three failures, or one far from any kill, are a fault."""
        failures = 0
        while True:
            began = time.perf_counter()
            try:
                answer = await self.client.post(route, json=body)
                status = str(answer.status_code)
            except httpx.TransportError as error:
                status = type(error).__name__
            if status == "200":
                self.tally.seconds.append(time.perf_counter() - began)
                self.tally.done[route] += 1
                return answer.json()
            self.tally.again[status] += 1
            if status != "429":
                failures += 1
                if failures == 3 or not self.tally.excused():
                    self.tally.failed.append(f"{route}: {status}, failure {failures}")
                    self.tally.say(f"FAILED {self.tally.failed[-1]}")
                    return None
            await asyncio.sleep(0.3)

    async def served(self) -> str:
        """Return the fingerprint that the model's name stands for; empty where nobody says."""
        try:
            entries = (await self.client.get("/v1/models")).json().get("data", ())
        except (httpx.TransportError, ValueError):
            return ""  # the gateway that was asked was killed
        return next((each["fingerprint"] for each in entries if each["id"] == "minilm"), "")

    async def load(self, seed: int) -> None:
        """Ask one thing after the other, drawn at random."""
        draw = random.Random(seed)
        kinds: list[Callable[[random.Random], Any]] = [self.embed, self.search, self.rerank]
        while not self.over.is_set():
            await draw.choices(kinds, (5, 3, 1))[0](draw)

    async def embed(self, draw: random.Random) -> None:
        rows = draw.sample(range(len(TEXTS)), draw.choice((1, 1, 1, 4, 16)))
        body = {"model": "minilm", "input": [TEXTS[at] for at in rows]}
        found = await self.post("/v1/embeddings", {**body, "encoding_format": "base64"})
        if found is None:
            return
        texts = [base64.b64decode(each["embedding"]) for each in found["data"]]
        vectors = np.stack([np.frombuffer(each, "<f4") for each in texts])
        if not any(np.abs(vectors - right[rows]).max() < NEAR for right in self.truth.vectors):
            self.tally.blame(f"embeddings of {rows}: neither version's")

    async def search(self, draw: random.Random) -> None:
        at = draw.randrange(len(TEXTS))
        reranked = draw.random() < 0.2
        body = {"index": "faq", "query": TEXTS[at], "top_k": 3, "rerank": reranked}
        found = await self.post("/v1/search", body)
        if found is None:
            return
        ids = [hit["id"] for hit in found["hits"]]
        if not reranked:
            if ids != self.truth.found[at]:
                self.tally.blame(f"search {TEXTS[at]!r}: {ids}")
            return
        right = np.sort(self.truth.ranks[at])[::-1][:3]
        scores = [hit["score"] for hit in found["hits"]]
        if np.abs(scores - right).max() > NEAR:
            self.tally.blame(f"reranked {TEXTS[at]!r}: {scores}, not {right}")

    async def rerank(self, draw: random.Random) -> None:
        at, rows = draw.randrange(len(TEXTS)), draw.sample(range(len(TEXTS)), 8)
        documents = [TEXTS[row] for row in rows]
        body = {"model": "cross", "query": TEXTS[at], "documents": documents}
        found = await self.post("/v1/rerank", body)
        for each in found["results"] if found else ():
            right = self.truth.ranks[at][rows[each["index"]]]
            if abs(each["relevance_score"] - right) > NEAR:
                self.tally.blame(f"rerank {TEXTS[at]!r}: {each}, not {right}")

    async def write(self) -> None:
        """Upsert a document and look for it, over and over."""
        while not self.over.is_set():
            number = next(self.numbers)
            text = f"{TEXTS[number % len(TEXTS)]} {number}"
            row = {"id": f"u{number % 200}", "text": text}
            if await self.post("/v1/indexes/live/documents", {"documents": [row]}) is None:
                continue
            found = await self.post("/v1/search", {"index": "live", "query": text, "top_k": 1})
            if found is not None and found["hits"][0]["text"] != text:
                self.tally.blame(f"{text!r} was written, {found['hits'][0]} found")


def replicas_now() -> dict[int, str]:
    """Return the processes of all replicas: which deployment each is."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            title = process.cmdline()[:1]
        except psutil.Error:
            continue  # it ended meanwhile
        if title and title[0].startswith("ray::ServeReplica:"):
            found[process.pid] = title[0].split(":")[4].split(".")[0]
    return found


def all_running(replicas: int) -> bool:
    """Tell whether Serve has every replica, and each has a process."""
    from ray import serve

    deployments = serve.status().applications["drill"].deployments.values()
    running = all(each.replica_states == {"RUNNING": replicas} for each in deployments)
    return running and len(replicas_now()) == replicas * len(STAGES)


async def kill(tally: Tally, replicas: int, over: asyncio.Event) -> None:
    """Kill a replica of each stage in turn, as soon as all have been there for a while."""
    for stage in itertools.cycle(STAGES):
        await asyncio.sleep(8)
        while not over.is_set() and not await asyncio.to_thread(all_running, replicas):
            await asyncio.sleep(1)
        if over.is_set():
            return
        victim = min(pid for pid, kind in replicas_now().items() if kind == stage)
        tally.kills.append((time.perf_counter(), stage))
        os.kill(victim, signal.SIGKILL)
        tally.say(
            f"killed a {stage}; {sum(tally.done.values())} answers, {dict(tally.again)} again"
        )


async def promote(clients: Clients, over: asyncio.Event) -> None:
    """Promote the second version, roll back, and so on; wait until every replica serves it."""
    registry, prints = Registry(), clients.truth.prints
    for wanted in itertools.cycle((1, 0)):
        await asyncio.sleep(20)
        if over.is_set():
            return
        change = partial(registry.promote, version=2) if wanted else registry.rollback
        await asyncio.to_thread(change, "minilm")
        began, row = time.perf_counter(), 0
        while row < 10 and not over.is_set():
            row = row + 1 if await clients.served() == prints[wanted] else 0
            await asyncio.sleep(0.3)
        clients.tally.taken_up.append(time.perf_counter() - began)
        clients.tally.say(f"version {wanted + 1} serves, {clients.tally.taken_up[-1]:.0f} s later")


async def weigh(tally: Tally, over: asyncio.Event) -> None:
    """Note the memory of every replica, by deployment, and of Serve's own processes."""
    while not over.is_set():
        sizes: dict[str, float] = {}
        for process in psutil.Process().children(recursive=True):
            try:
                title = (process.cmdline() or [""])[0]
                if title.startswith(("ray::ServeReplica", "ray::ProxyActor", "ray::ServeContr")):
                    kind = title.split(":")[4].split(".")[0] if "Replica" in title else title[5:15]
                    sizes[kind] = max(sizes.get(kind, 0.0), process.memory_info().rss / 2**20)
            except psutil.Error:
                continue  # it was killed meanwhile
        tally.memory.append((time.perf_counter(), sizes))
        await asyncio.sleep(5)


async def drill(url: str, truth: Truth, given: argparse.Namespace) -> Tally:
    """Run everything side by side until the time is over."""
    tally = Tally()
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        clients = Clients(client, truth, tally)
        loads = [asyncio.create_task(clients.load(seed)) for seed in range(given.clients)]
        others = (kill(tally, given.replicas, clients.over), promote(clients, clients.over))
        weighing = weigh(tally, clients.over)
        work = [*loads, *map(asyncio.create_task, (*others, weighing, clients.write()))]
        await asyncio.wait(work, timeout=given.seconds, return_when=asyncio.FIRST_EXCEPTION)
        clients.over.set()
        await asyncio.gather(*work)
    return tally


def report(tally: Tally, seconds: float) -> None:
    """Print what was seen."""
    p50, p99 = np.percentile(tally.seconds, [50, 99]) * 1e3
    print(f"{sum(tally.done.values())} answers in {seconds:.0f} s: {dict(tally.done)}")
    print(f"p50 {p50:.0f} ms, p99 {p99:.0f} ms; sent again after: {dict(tally.again)}")
    print(f"kills: {dict(Counter(stage for _, stage in tally.kills))}")
    print(f"promotions and roll-backs taken up in {[round(each) for each in tally.taken_up]} s")
    half = len(tally.memory) // 2
    for kind in sorted({kind for _, sizes in tally.memory for kind in sizes}):
        parts = (tally.memory[half // 2 : half], tally.memory[half + half // 2 :])
        early, late = (
            max((sizes.get(kind, 0.0) for _, sizes in part), default=0.0) for part in parts
        )
        print(
            f"  {kind:14} largest {early:6.0f} MiB in the second quarter, {late:6.0f} in the last"
        )
    print(f"{len(tally.wrong)} wrong answers, {len(tally.failed)} failures")


def main() -> None:
    """Read the command line, drill, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="folder of a dense model")
    parser.add_argument("--clients", type=int, default=24)
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=600)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="raybert-drill-") as folder, socket.socket() as probe:
        set_environment(RAYBERT_HOME=f"{folder}/home")
        truth = prepare(Path(folder), given.model)
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
        probe.close()
        start(Path(folder), given.replicas, port)
        tally = asyncio.run(drill(f"http://127.0.0.1:{port}", truth, given))
        report(tally, given.seconds)
        import ray

        ray.shutdown()
    for fault in (*tally.wrong, *tally.failed)[:10]:
        print(fault)
    if tally.wrong or tally.failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
