"""What happens when something breaks: the table of docs/operations.md, measured.

Each drill disturbs a job or an app, waits for its end, and compares what it wrote with what an
undisturbed one wrote. `recovery` is what the job took longer than undisturbed, unless said.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.cluster
UNDECIDED_S = 60.0
"""Seconds after a cut in which Ray may still give the host up: broken connections heal slowly."""


def encoding(hosts: Any, minilm: Path, texts: dict[str, Path], out: Path) -> str:
    """Begin an encoding, and come back when it has written some shards."""
    arguments = hosts.encode(minilm, texts["docs.parquet"], out)
    job: str = hosts.submit("encode_corpus", *arguments)
    hosts.wait_for(lambda: hosts.written(out, "shards") >= 4)
    return job


def compare(hosts: Any, drill: Any, job_id: str, out: Path, clean: Path, begun: float) -> None:
    """Follow the job to its good end; every row must be there, as of the clean run."""
    job, text = hosts.follow(job_id)
    took = time.monotonic() - begun
    assert job.code == 0, text[-3000:]
    assert hosts.shards(out) == hosts.shards(clean)
    drill.lost = "nothing: the rows of a clean run"
    drill.recovery_s = max(0.0, took - hosts.clean_s["docs"])


def test_host_killed_while_encoding(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """A host is killed while it encodes."""
    out, begun = hosts.folder / "encode-kill", time.monotonic()
    job = encoding(hosts, minilm, texts, out)
    hosts.kill(3)
    before = hosts.written(out, "shards")
    hosts.wait_for(lambda: hosts.written(out, "shards") > before + 2)
    back = hosts.up()
    drill.happened = f"the other host went on; this one was back after {back:.0f} s and took shards"
    compare(hosts, drill, job, out, clean["docs"], begun)


def test_host_killed_while_mining(
    hosts: Any, clean: dict[str, Path], texts: dict[str, Path], drill: Any
) -> None:
    """A host is killed while it mines."""
    arguments = (
        *("--queries", str(clean["queries"]), "--corpus", str(clean["docs"])),
        *("--pairs", str(texts["qrels.tsv"]), "--rules.num-negatives", "2"),
    )
    begun = time.monotonic()
    hosts.run("mine_hard_negatives", *arguments, "--out", str(hosts.folder / "mined"))
    undisturbed = time.monotonic() - begun
    out, begun = hosts.folder / "mine-kill", time.monotonic()
    job_id = hosts.submit("mine_hard_negatives", *arguments, "--out", str(out))
    hosts.wait_for(lambda: hosts.jobs.find(job_id).status == "RUNNING")
    hosts.wait_for(lambda: len(list(out.rglob("*"))) >= 2)
    hosts.kill(3)
    job, text = hosts.follow(job_id)
    took = time.monotonic() - begun
    assert job.code == 0, text[-3000:]
    assert hosts.shards(out) == hosts.shards(hosts.folder / "mined")
    drill.happened = "its comparisons were made again on the other host"
    drill.lost = "nothing: the same pairs"
    drill.recovery_s = max(0.0, took - undisturbed)
    hosts.up()


def test_host_killed_while_training(
    hosts: Any, minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """A host is killed while two train."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from safetensors.numpy import load_file

    docs = pq.read_table(texts["docs.parquet"])
    data = hosts.folder / "titles.parquet"
    pq.write_table(
        pa.table({"anchor": docs["title"], "positive": docs["text"]}).slice(0, 640), data
    )
    arguments = (
        *("--model", str(minilm), "--data.files", str(data), "--max-seq-length", "32"),
        *("--batch.size", "16", "--schedule.max-steps", "30", "--scale.threads", "1"),
        *("--saving.every", "5", "--scale.workers"),
    )
    hosts.run("train_dense", *arguments, "2", "--out", str(hosts.folder / "train-clean"))
    out = hosts.folder / "train-kill"
    checkpoints = hosts.folder / "train-kill.checkpoints"
    job_id = hosts.submit("train_dense", *arguments, "2", "--out", str(out))
    hosts.wait_for(lambda: list(checkpoints.glob("step-*.pt")))
    begun, last = time.monotonic(), max(checkpoints.glob("step-*.pt")).stat().st_mtime
    hosts.kill(3)
    hosts.up()
    hosts.wait_for(
        lambda: (
            out.exists()
            or any(file.stat().st_mtime > last + 1 for file in checkpoints.glob("step-*.pt"))
        )
    )
    drill.recovery_s = time.monotonic() - begun
    job, text = hosts.follow(job_id)
    assert job.code == 0, text[-3000:]
    undisturbed = load_file(hosts.folder / "train-clean" / "model.safetensors")
    for name, weight in load_file(out / "model.safetensors").items():
        np.testing.assert_array_equal(weight, undisturbed[name], err_msg=name)
    drill.happened = "both ranks began again at the last checkpoint once the host was back"
    drill.lost = "the steps since it, made again; every weight equal to an undisturbed run's"


def test_host_killed_while_serving(
    hosts: Any, clean: dict[str, Path], minilm: Path, drill: Any
) -> None:
    """A host is killed that serves one of two replicas."""
    index = hosts.folder / "drill-index"
    hosts.run("build_index", "--embeddings", str(clean["docs"]), "--out", str(index))
    url = hosts.serve({"minilm": str(minilm)}, {"docs": str(index)}, replicas=2)
    assert len(hosts.replica_nodes()) == 2
    with asking(url) as answers:
        time.sleep(5)
        hosts.kill(3)
        killed = time.monotonic()
        time.sleep(30)
        hosts.up()
        hosts.wait_for(lambda: len(hosts.replica_nodes()) == 2)
        both = time.monotonic() - killed
        time.sleep(3)
    failed = [at - killed for at, good in answers if not good]
    assert all(good for _, good in answers[-10:])
    drill.happened = f"the other replica answered; two again after {both:.0f} s"
    drill.lost = f"{len(failed)} of {len(answers)} requests failed or took over 5 s"
    drill.recovery_s = max(failed, default=0.0)
    hosts.stop_serving()


@contextmanager
def asking(url: str) -> Iterator[list[tuple[float, bool]]]:
    """Ask five times a second; collects when, and whether the answer was good."""
    ended, answers = threading.Event(), []
    body = {"index": "docs", "query": "sort by two keys", "top_k": 3}

    def ask() -> None:
        while not ended.wait(0.2):
            begun = time.monotonic()
            try:
                reply = httpx.post(f"{url}/v1/search", json=body, timeout=5, trust_env=False)
                answers.append((begun, reply.status_code == 200))
            except httpx.HTTPError:
                answers.append((begun, False))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        ended.set()
        thread.join()


def test_head_restarted(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """The head is killed while a job runs, and started again."""
    index = hosts.folder / "head-index"
    hosts.run("build_index", "--embeddings", str(clean["docs"]), "--out", str(index))
    url = hosts.serve({"minilm": str(minilm)}, {"docs": str(index)}, replicas=1)
    out = hosts.folder / "head-kill"
    encoding(hosts, minilm, texts, out)
    nodes = {row["node_name"] for row in hosts.alive()}
    done = hosts.written(out, "shards")
    killed = time.monotonic()
    hosts.kill(1)
    hosts.up()
    hosts.wait_for(lambda: nodes & {row["node_name"] for row in hosts.alive()})
    hosts.wait_for(lambda: answered(url))
    drill.recovery_s = time.monotonic() - killed
    arguments = hosts.encode(minilm, texts["docs.parquet"], out)
    text = hosts.run("encode_corpus", *arguments)
    assert hosts.shards(out) == hosts.shards(clean["docs"])
    drill.happened = "hosts and the served search were taken up; the job's file died with the head"
    drill.lost = f"nothing: the same command went on after {done} shards ({text.count('reused')})"
    hosts.stop_serving()


def answered(url: str) -> bool:
    body = {"index": "docs", "query": "sort by two keys", "top_k": 3}
    try:
        return httpx.post(f"{url}/v1/search", json=body, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def test_network_cut(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """A host's cable is out for 30 seconds while it encodes."""
    network = hosts.state.network
    if network is None:
        pytest.skip("the hosts share this machine's network")
    out, begun = hosts.folder / "encode-cut", time.monotonic()
    job = encoding(hosts, minilm, texts, out)
    network.cut(3)
    time.sleep(30)
    network.mend(3)
    mended = time.monotonic()
    compare(hosts, drill, job, out, clean["docs"], begun)
    hosts.wait_for(lambda: hosts.lost(3) or time.monotonic() > mended + UNDECIDED_S)
    drill.happened = (
        "Ray gave the host up, and its shard was encoded again; it joined anew"
        if hosts.lost(3)
        else "the host stayed a member"
    )
    hosts.up()


FILL = '''
"""Fill the object stores three times over, and read everything back."""
import numpy as np
import ray

ray.init()


@ray.remote(num_cpus=0.1)
def block(number: int) -> np.ndarray:
    return np.full(2_500_000, number, dtype=np.float64)


hosts = ("host2", "host3")
blocks = [block.options(resources={h: 0.01}).remote(n) for n in range(20) for h in hosts]
ray.wait(blocks, num_returns=len(blocks), timeout=120)
print("full", flush=True)
wrong = sum(bool((ray.get(ref) != n // 2).any()) for n, ref in enumerate(blocks))
print("wrong", wrong)
'''


def test_object_store_full(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """The object stores are filled three times over while two hosts encode."""
    checkout = hosts.folder / "filling"
    (checkout / "platform" / "raybert").mkdir(parents=True, exist_ok=True)
    (checkout / "fill.py").write_text(FILL)
    out, begun = hosts.folder / "encode-full", time.monotonic()
    job = encoding(hosts, minilm, texts, out)
    filler, printed = hosts.follow(hosts.jobs.submit(checkout / "fill.py", [], {}))
    assert filler.code == 0, printed[-2000:]
    assert "wrong 0" in printed
    drill.happened = (
        "800 MB were put into stores of 120 MB: Ray spilled them to disk and read them back"
    )
    compare(hosts, drill, job, out, clean["docs"], begun)


def test_disk_full(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """The disk under `--out` is full."""
    disk = hosts.disk
    if disk is None:
        pytest.skip("only root may mount a disk, and only before the hosts start")
    disk.resize("1m")
    out = disk.folder / "out"
    arguments = hosts.encode(minilm, texts["docs.parquet"], out)
    job, text = hosts.follow(hosts.submit("encode_corpus", *arguments))
    fault = [line for line in text.splitlines() if line.startswith("error:")]
    assert job.code == 2, text[-3000:]
    assert len(fault) == 1
    assert "No space left" in fault[0]
    done = hosts.written(out, "shards")
    disk.resize("100m")
    begun = time.monotonic()
    hosts.run("encode_corpus", *arguments)
    drill.recovery_s = time.monotonic() - begun
    assert hosts.shards(out) == hosts.shards(clean["docs"])
    drill.happened = "the job stopped with one line that names the file; no half file was left"
    drill.lost = f"nothing: with room made, the same command went on after {done} shards"


def test_mlflow_down(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """MLflow is away for two minutes."""
    out, begun = hosts.folder / "encode-mlflow", time.monotonic()
    job = encoding(hosts, minilm, texts, out)
    mlflow = hosts.state.mlflow
    mlflow.process.kill()
    away = time.monotonic()
    compare(hosts, drill, job, out, clean["docs"], begun)
    time.sleep(max(0.0, 120 - (time.monotonic() - away)))
    hosts.up()
    hosts.run(
        "encode_corpus", *hosts.encode(minilm, texts["queries.parquet"], hosts.folder / "after")
    )
    state = hosts.state
    asked = f"{state.mlflow.url}/api/2.0/mlflow/runs/search"
    experiments = {"experiment_ids": ["1", "2", "3"], "filter": f"tags.`ray.job` = '{job}'"}
    (run,) = httpx.post(asked, json=experiments, timeout=60, trust_env=False).json()["runs"]
    assert run["info"]["status"] == "FINISHED"
    assert run["data"]["metrics"]
    drill.happened = "the job went on and kept its notes; the next job sent them"
    drill.lost = "nothing: its run is complete in MLflow"


def test_straggler(
    hosts: Any, clean: dict[str, Path], minilm: Path, texts: dict[str, Path], drill: Any
) -> None:
    """A host has a tenth of its processor."""
    out, begun = hosts.folder / "encode-slow", time.monotonic()
    job = encoding(hosts, minilm, texts, out)
    with hosts.slowed(3, 0.1):
        compare(hosts, drill, job, out, clean["docs"], begun)
    drill.happened = "the other host took most of the shards, since workers draw them when idle"
