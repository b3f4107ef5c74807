"""Three hosts on this machine, what may happen to them, and the table of what did."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from raybert.artifacts import Folder, read_manifest
from raybert.jobs import (
    Job,
    Jobs,
    PlatformSettings,
    PlatformState,
    deploy,
    down,
    find_cluster,
    no_namespaces,
    settings_from,
    up,
    wait_until_served,
)
from raybert.jobs.process import Process

CGROUPS = Path("/sys/fs/cgroup/cpu")
SHARD = 64
ENCODE = ("--max-seq-length", "48", "--rows-per-shard", str(SHARD))


@dataclass
class Slowed:
    """A host that runs a share of the time only: all its processes are stopped for the rest."""

    process: Process
    share: float
    period_s: float = 0.5

    def __enter__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._pulse, args=(self._ended,))
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _pulse(self, ended: threading.Event) -> None:
        while not ended.is_set():
            self._signal("suspend")
            time.sleep(self.period_s * (1 - self.share))
            self._signal("resume")
            ended.wait(self.period_s * self.share)

    def _signal(self, what: str) -> None:
        """Stop or wake the workers; the raylet stays awake, the host shall be slow and not dead."""
        for process in psutil.Process(self.process.pid).children(recursive=True):
            try:
                if process.name().startswith("ray::"):
                    getattr(process, what)()
            except psutil.Error:
                continue


@dataclass(frozen=True)
class Disk:
    """A file system in memory, mounted before the hosts start: later ones they would not see."""

    folder: Path

    def mount(self) -> bool:
        """Mount it; returns whether that is allowed here."""
        command = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(self.folder)]
        return subprocess.run(command).returncode == 0

    def resize(self, size: str) -> None:
        """Give it another size, as `mount` takes it."""
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True)

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@dataclass
class Hosts:
    """The platform of `cluster/three-hosts.yaml`: host 1 is the head, 2 and 3 work.

    Args:
        root: the checkout.
        folder: storage that all hosts share.
        settings: how the hosts are started.
        disk: a disk of their own, whose size may be changed; None where none may be mounted.
    """

    root: Path
    folder: Path
    settings: PlatformSettings
    disk: Disk | None
    clean_s: dict[str, float] = field(default_factory=dict)

    @property
    def state(self) -> PlatformState:
        return PlatformState.read()

    @property
    def jobs(self) -> Jobs:
        return Jobs(find_cluster())

    def up(self) -> float:
        """Start what does not run; return the seconds it took."""
        begun = time.monotonic()
        up(self.settings, lambda line: None)
        return time.monotonic() - begun

    def process(self, host: int) -> Process:
        """Return the process of a host's Ray."""
        state = self.state
        if host == 1:
            assert state.ray
            return state.ray.process
        return next(node.process for node in state.nodes if node.number == host)

    def lost(self, host: int) -> bool:
        """Say whether a worker host's Ray has ended."""
        return host not in {node.number for node in self.state.nodes}

    def freeze(self, host: int) -> None:
        """Stop a host's raylet where it stands: alive, and deaf."""
        for process in psutil.Process(self.process(host).pid).children(recursive=True):
            if process.name() == "raylet":
                process.suspend()

    def kill(self, host: int) -> None:
        """Pull a host's plug."""
        self.process(host).kill()

    def submit(self, name: str, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Submit a job file of `pipelines/`."""
        file = self.root / "pipelines" / f"{name}.py"
        return self.jobs.submit(file, list(arguments), dict(env or {}))

    def follow(self, job_id: str) -> tuple[Job, str]:
        """Return how a job ended and what it printed."""
        written: list[str] = []
        job = self.jobs.follow(job_id, written.append)
        return job, "".join(written)

    def run(self, name: str, *arguments: str) -> str:
        """Run a job to its good end; return what it printed."""
        job, text = self.follow(self.submit(name, *arguments))
        assert job.code == 0, text[-3000:]
        return text

    def encode(self, model: Path, corpus: Path, out: Path, workers: int = 2) -> list[str]:
        """Return the arguments of the encoding that most drills disturb."""
        paths = ("--corpus", str(corpus), "--model", str(model), "--out", str(out))
        return [*paths, *ENCODE, "--workers", str(workers)]

    def serve(self, models: Mapping[str, str], indexes: Mapping[str, str], replicas: int) -> str:
        """Serve a search, a replica on each host that works; return its address.

        Two replicas take all CPUs, so that neither can lie beside the other; one leaves a job room.
        """
        head = self.state.ray
        assert head
        values = {
            "models": dict(models),
            "indexes": dict(indexes),
            "gateway.access.allow_open": True,
            "edge": {"replicas": replicas, "cpus": replicas / 2, "threads": 1},
        }
        url = deploy(head, self.root / "serve" / "search.yaml", values)
        wait_until_served(head, within_s=300)
        return url

    def slowed(self, host: int, share: float) -> Slowed:
        """Return a host that works a share of the time, inside a `with`."""
        return Slowed(self.process(host), share)

    @contextmanager
    def limited(self, share: float) -> Iterator[None]:
        """Give each host that works a share of its core: the head takes its own from what is left.

        On real hosts the head is a machine of its own; here it would take from the ones it serves.
        """
        if not os.access(CGROUPS, os.W_OK):
            pytest.skip("only root may limit hosts, by control groups: the head takes from them")
        groups = []
        try:
            for node in self.state.nodes:
                group = CGROUPS / f"raybert-host{node.number}-{os.getpid()}"
                group.mkdir()
                groups.append(group)
                (group / "cpu.cfs_quota_us").write_text(str(int(share * 100_000)))
                host = psutil.Process(node.process.pid)
                for process in [host, *host.children(recursive=True)]:
                    (group / "cgroup.procs").write_text(str(process.pid))
            yield
        finally:
            for group in groups:
                for pid in (group / "cgroup.procs").read_text().split():
                    with suppress(ProcessLookupError):
                        (CGROUPS / "cgroup.procs").write_text(pid)
                group.rmdir()

    @staticmethod
    def shards(out: Path) -> list[tuple[int, str]]:
        """Return rows and checksum of each shard of a finished artifact."""
        manifest = read_manifest(str(out))
        return [(shard.rows, shard.checksum) for shard in manifest.shards]

    @staticmethod
    def written(out: Path, folder: str) -> int:
        """Return how many files lie in a folder of an unfinished artifact."""
        return len(Folder(str(out)).names(folder))

    @staticmethod
    def wait_for(what: Callable[[], Any], within_s: float = 240.0) -> float:
        """Wait until something is so; return the seconds it took."""
        begun = time.monotonic()
        while not what():
            assert time.monotonic() - begun < within_s, "it did not happen in time"
            time.sleep(0.2)
        return time.monotonic() - begun

    def alive(self) -> list[dict[str, Any]]:
        """Return Ray's living nodes."""
        rows = self._asked("nodes")
        return [row for row in rows if row["state"] == "ALIVE"]

    def replica_nodes(self) -> set[str]:
        """Return the nodes that replicas of the search run on."""
        rows = self._asked("actors")
        return {
            row["node_id"]
            for row in rows
            if row["state"] == "ALIVE" and row["class_name"].startswith("ServeReplica:search")
        }

    def _asked(self, what: str) -> list[dict[str, Any]]:
        head = self.state.ray
        assert head
        path = f"{head.url}/api/v0/{what}?detail=1&limit=1000"
        reply = httpx.get(path, headers=head.headers, timeout=60, trust_env=False)
        rows: list[dict[str, Any]] = reply.json()["data"]["result"]["result"]
        return rows

    @staticmethod
    def speed(out: Path) -> float:
        """Return rows a second of an encoding, its first quarter left out: workers start then."""
        manifest = read_manifest(str(out))
        ends = sorted((out / shard.file).stat().st_mtime for shard in manifest.shards)
        steady = ends[len(ends) // 4 :]
        rows = sum(shard.rows for shard in manifest.shards) * (len(steady) - 1) / len(ends)
        return rows / (steady[-1] - steady[0])

    def stop_serving(self) -> None:
        head = self.state.ray
        assert head
        path = f"{head.url}/api/serve/applications/"
        httpx.delete(path, headers=head.headers, timeout=60, trust_env=False)


@dataclass
class Drill:
    """One line of the table in docs/operations.md."""

    drill: str
    happened: str = ""
    lost: str = ""
    recovery_s: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory, root: Path, ray_token: Path) -> Iterator[Hosts]:
    """Three hosts; RAYBERT_CLUSTER_HOME names ones that run already, and leaves them running."""
    kept = os.environ.get("RAYBERT_CLUSTER_HOME")
    home = Path(kept) if kept else tmp_path_factory.mktemp("hosts")
    if not kept:
        shutil.copy2(ray_token, home / "ray.token")
    network = "shared" if no_namespaces() else "namespaces"
    settings = settings_from(
        PlatformSettings, root / "cluster" / "three-hosts.yaml", network=network
    )
    if network == "shared":
        settings = settings.on_free_ports()
    with ExitStack() as ending:
        ending.enter_context(pytest.MonkeyPatch.context()).setenv("RAYBERT_HOME", str(home))
        disk: Disk | None = None if kept else Disk(tmp_path_factory.mktemp("disk"))
        if disk and disk.mount():
            ending.callback(disk.unmount)
        else:
            disk = None
        if not kept:
            ending.callback(down, lambda line: None)
        up(settings, lambda line: None)
        yield Hosts(root, tmp_path_factory.mktemp("shared"), settings, disk)


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, Path]:
    """The bundled corpus and its questions."""
    data = root / "data" / "demo"
    return {name: data / name for name in ("docs.parquet", "queries.parquet", "qrels.tsv")}


@pytest.fixture(scope="session")
def clean(hosts: Hosts, minilm: Path, texts: dict[str, Path]) -> dict[str, Path]:
    """What undisturbed encodings wrote, of sections and of questions; their seconds are kept."""
    made = {}
    for name in ("docs", "queries"):
        out = hosts.folder / name
        begun = time.monotonic()
        hosts.run("encode_corpus", *hosts.encode(minilm, texts[f"{name}.parquet"], out))
        hosts.clean_s[name] = time.monotonic() - begun
        made[name] = out
    return made


@pytest.fixture(scope="session")
def table() -> Iterator[list[Drill]]:
    """The drills' lines; written as JSON and printed as Markdown when all have run."""
    lines: list[Drill] = []
    yield lines
    out = Path("results")
    out.mkdir(exist_ok=True)
    path = out / "drills.json"
    path.write_text(json.dumps([asdict(line) for line in lines], indent=1))
    print("\n| drill | what happened | lost | recovery |\n|---|---|---|---|")
    for line in lines:
        print(f"| {line.drill} | {line.happened} | {line.lost} | {line.recovery_s:.0f} s |")


@pytest.fixture
def drill(request: pytest.FixtureRequest, table: list[Drill]) -> Drill:
    """The line of this drill; its docstring is the drill's name."""
    line = Drill(str(request.function.__doc__).strip().rstrip("."))
    table.append(line)
    return line
