"""`raybert demo`: the whole way on the bundled corpus, from text to a served answer."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybert.cli.demo_promotion import Winner, promoted
from raybert.cli.demo_steps import EXPERIMENT, Step, demo_steps, finished_step, forget
from raybert.cli.offline_model import offline_model
from raybert.cli.printing import Commands, print_hits
from raybert.settings import home

if TYPE_CHECKING:
    from concurrent.futures import Future

    from rich.console import Console

    from raybert.jobs import Jobs, PlatformState, RayHead

QUESTIONS = (
    "my program quits before its threads have done anything",
    "why do decimal fractions come out slightly wrong",
    "find words that are spelled almost alike",
)
APP = Path("serve") / "search.yaml"
STEPS = 8
"""Steps of training: about a minute on two cores."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo", help="encode, index, judge, train and serve, on a real corpus"
    )
    parser.add_argument(
        "--steps", type=int, default=STEPS, metavar="N", help=f"steps to train (default: {STEPS})"
    )
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from raybert.jobs import Jobs, checkout_of, find_cluster

    begun = time.monotonic()
    root = checkout_of(APP)
    console = Console(highlight=False, soft_wrap=True)
    console.print("\n[bold]raybert[/]  from raw text to a served answer, on this machine alone\n")
    with _line(console, "platform") as tell:
        state = _platform(tell)
    model = offline_model()
    jobs = Jobs(find_cluster())
    _run_all(demo_steps(root, model, arguments.steps), jobs, console)
    with _line(console, "promote") as tell:
        winner = promoted(model, tell.done)
    with _line(console, "serve") as tell:
        url = _serve(state, root, winner, tell)
    console.print(f"\n[bold]Three questions[/]  POST {url}/v1/search\n")
    for question in QUESTIONS:
        print_hits(question, _ask(url, question))
        console.print()
    _addresses(console, state, url)
    console.print(f"[dim]done in {time.monotonic() - begun:.0f} s; `make demo-down` stops it[/]")
    return 0


class _Tell:
    """One line of the demo: what is being done, and then what came of it."""

    def __init__(self, spinner: Any, name: str) -> None:
        self._spinner = spinner
        self._name = name
        self.result = ""

    def now(self, text: str) -> None:
        """Say what is being done; unheard where another line is shown meanwhile."""
        if self._spinner is not None:
            self._spinner.update(f"{self._name:<10} [dim]{text}[/]")

    def done(self, result: str) -> None:
        """Say what came of it."""
        self.result = result


@contextmanager
def _line(console: Console, name: str) -> Iterator[_Tell]:
    """Show a step while it goes on, and leave one line with its result and seconds."""
    begun = time.monotonic()
    with console.status(f"{name:<10}") as spinner:
        tell = _Tell(spinner, name)
        yield tell
    seconds = time.monotonic() - begun
    console.print(f"  [bold cyan]{name:<10}[/] [dim]{seconds:4.0f} s[/]  {tell.result}")


def _platform(tell: _Tell) -> PlatformState:
    """Start what does not run yet, on free ports where the usual ones are taken."""
    from raybert.jobs import PlatformSettings, PlatformState, up

    tell.now("starting Ray and MLflow")
    before = PlatformState.read()
    state = up(PlatformSettings().on_free_ports(), tell.now)
    tell.done("runs already" if state == before else "Ray and MLflow started")
    return state


def _run_all(steps: Sequence[Step], jobs: Jobs, console: Console) -> None:
    """Run the jobs in order, a line each; one that names what it needs begins as soon as it can."""
    from concurrent.futures import ThreadPoolExecutor

    ran = False
    begun: dict[str, tuple[_Tell, Future[bool]]] = {}
    with ThreadPoolExecutor(1) as beside:
        for step in steps:
            with _line(console, step.name) as tell:
                if step.name in begun:
                    tell.now("begun beside the steps above")
                    early, running = begun[step.name]
                    now = running.result()
                    ran = now or ran
                    tell.done(early.result + " [dim](beside the steps above)[/]" * now)
                else:
                    ran = _run(step, jobs, tell, again=ran)
            for later in steps:
                if later.after == step.name:
                    early = _Tell(None, later.name)
                    begun[later.name] = (
                        early,
                        beside.submit(_run, later, jobs, early, again=ran),
                    )


def _run(step: Step, jobs: Jobs, tell: _Tell, *, again: bool) -> bool:
    """Run a step's job, unless its artifact is there.

    Returns:
        whether it ran, or one before it did.

    Raises:
        PlatformError: the job failed; with its own last word.
    """
    from raybert.errors import PlatformError

    done = None if again else finished_step(step)
    if done is not None:
        tell.done(f"{step.summary(done)} [dim](done before)[/]")
        return False
    forget(step, inputs_changed=again)
    printed: list[str] = []

    def write(text: str) -> None:
        printed.extend(line for line in text.splitlines() if line.strip())
        tell.now(printed[-1][:90].replace("[", r"\[") if printed else "")

    tell.now(f"{step.file.name}")
    arguments = [*step.arguments, "--out", str(step.out), "--experiment", EXPERIMENT]
    job = jobs.follow(jobs.submit(step.file, arguments, {}), write)
    manifest = finished_step(step)
    if job.code or manifest is None:
        said = [line for line in printed if line.startswith("error:")] or printed[-1:]
        fault = " ".join(said).removeprefix("error: ")
        raise PlatformError(f"{step.name}: {fault} (`raybert logs {job.id}` has it all)")
    tell.done(step.summary(manifest))
    return True


def _serve(state: PlatformState, root: Path, winner: Winner, tell: _Tell) -> str:
    """Serve the index; an app that runs already with the same values is left as it is."""
    from raybert.jobs import applications, deploy, wait_until_served

    head: RayHead | None = state.ray
    assert head is not None
    served = [found.name for found in applications(head) if found.status == "RUNNING"]
    tell.now("starting the replica, loading model and index")
    values = {"models.minilm": str(winner.model), "indexes.demo": str(winner.index)}
    url = deploy(head, root / APP, values)
    wait_until_served(head, within_s=300)
    tell.done(f"{APP} at {url} [dim]{'(runs already)' if 'search' in served else ''}[/]")
    return url


def _ask(url: str, question: str) -> list[dict[str, Any]]:
    """Ask over HTTP, as any client would."""
    import httpx

    from raybert.errors import PlatformError

    body = {"index": "demo", "query": question, "top_k": 3}
    reply = httpx.post(f"{url}/v1/search", json=body, timeout=60, trust_env=False)
    if not reply.is_success:
        raise PlatformError(f"{url}/v1/search answers {reply.status_code}: {reply.text[:200]}")
    hits: list[dict[str, Any]] = reply.json()["hits"]
    return [{**hit.get("fields", {}), **hit} for hit in hits]


def _addresses(console: Console, state: PlatformState, url: str) -> None:
    """Say where everything is, and what to try next."""
    from raybert.tracking import page

    assert state.ray is not None
    assert state.mlflow is not None
    for name, address in (
        ("Serve", url),
        ("MLflow", page(state.mlflow.url)),
        ("Ray", f"{state.ray.url}   [dim]asks for the token in {state.ray.token_file}[/]"),
    ):
        console.print(f"  [bold]{name:<10}[/] {address}")
    body = '{"query": "how do I sort by two keys", "explain": true}'
    console.print(f"\n  [dim]curl {url}/v1/search -H 'content-type: application/json' -d '{body}'")
    report, here = home() / "demo" / "after" / "report", Path.cwd()
    near = report.relative_to(here) if report.is_relative_to(here) else report
    console.print(f"  [dim]raybert lineage {near}[/]\n")
