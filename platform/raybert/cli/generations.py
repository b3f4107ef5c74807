"""`raybert generations`: build the next generation of an index, verify it, switch, roll back."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from raybert.cli.pairs import pairs
from raybert.cli.printing import Commands, say, table
from raybert.errors import SettingsError

if TYPE_CHECKING:
    from raybert.index.generations import GenerationRecord, History


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "generations", help="generations of an index: build, verify, switch"
    )
    parser.add_argument("index", help="folder of the index name")
    steps = parser.add_subparsers(title="steps", metavar="STEP", required=True)
    _step(steps, "list", _list, "list generations; the current one is marked")
    build = _step(steps, "build", _build, "build the next generation from embeddings")
    build.add_argument("embeddings", help="folder of the embeddings artifact")
    build.add_argument("--kind", default="flat", help="kind of index (default flat)")
    build.add_argument("--shards", type=int, default=1, metavar="N", help="default 1")
    build.add_argument("--min-recall", type=float, metavar="SHARE", help="refuse below it")
    live = _step(steps, "live", _live, "begin an empty live index as the next generation")
    live.add_argument("model", help="folder or name of the model that encodes its documents")
    live.add_argument("--kind", default="flat", help="of its sealed segments (default flat)")
    add = _step(steps, "add", _add, "add finished or live indexes as the next generation")
    add.add_argument("legs", nargs="+", metavar="LEG=DIR", help="such as dense=runs/faq-index")
    verify = _step(steps, "verify", _verify, "ask a generation and the current one the same")
    verify.add_argument("name", help="the generation, such as g2")
    verify.add_argument("--queries", required=True, action="append", help="file; repeatable")
    verify.add_argument("--text-column", default="text", help="column of the query")
    verify.add_argument("--id-column", default="id", help="column of the query's id")
    verify.add_argument("--qrels", help="judgements, for nDCG")
    verify.add_argument("--at", type=int, default=10, metavar="K", help="hits looked at")
    verify.add_argument("--model", action="append", default=[], metavar="DIR", help="repeatable")
    verify.add_argument("--min-overlap", type=float, default=0.0, metavar="SHARE")
    switch = _step(steps, "switch", _switch, "make a generation the current one")
    switch.add_argument("name", help="the generation, such as g2")
    canary = _step(steps, "canary", _canary, "have servers try a generation on some queries")
    canary.add_argument("name", nargs="?", help="the generation; left out: end the trial")
    canary.add_argument("--share", type=float, default=0.1, help="of the queries (default 0.1)")
    canary.add_argument("--shadow", action="store_true", help="compare only, answer by the current")
    _step(steps, "rollback", _roll_back, "make the generation current that was so before")


def _step(steps: Commands, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser = steps.add_parser(name, help=text)
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=run)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    from raybert.index.generations import Generations

    history = Generations(arguments.index).history
    if arguments.json:
        print(history.model_dump_json(indent=2))
        return 0
    columns = ("generation", "is", "made", "rows", "legs", "verified")
    table(columns, [_row(history, each) for each in history.generations])
    return 0


def _build(arguments: argparse.Namespace) -> int:
    from raybert.index.generations import Generations

    made = Generations(arguments.index).build_next(
        arguments.embeddings,
        kind=arguments.kind,
        shards=arguments.shards,
        min_recall=arguments.min_recall,
    )
    return _tell(arguments, made, f"{made.name} is built; verify it, then switch to it")


def _live(arguments: argparse.Namespace) -> int:
    from raybert.artifacts import Input
    from raybert.encoders import DenseEncoder, SparseEncoder, open_encoder
    from raybert.index.generations import Generations
    from raybert.index.kinds import pick_kind

    encoder, reads = open_encoder(arguments.model), pick_kind(arguments.kind).reads
    kinds = (DenseEncoder, SparseEncoder)
    if not isinstance(encoder, kinds) or reads not in encoder.capabilities:
        makes = ", ".join(sorted(encoder.capabilities))
        raise SettingsError(
            f"model {arguments.model!r} does {makes}; kind {arguments.kind!r} takes {reads} rows"
        )
    made = Generations(arguments.index).begin_live(
        model=Input(kind="model", uri=arguments.model, fingerprint=encoder.fingerprint),
        dimension=encoder.get_embedding_dimension(),
        metric=encoder.similarity_fn_name,
        kind=arguments.kind,
        leg=reads,
        encoding={"text_column": "text"},
    )
    return _tell(arguments, made, f"{made.name} is begun; switch to it, then write documents")


def _add(arguments: argparse.Namespace) -> int:
    from raybert.index.generations import Generations

    made = Generations(arguments.index).add(pairs("legs", arguments.legs))
    return _tell(arguments, made, f"{made.name} is added; verify it, then switch to it")


def _verify(arguments: argparse.Namespace) -> int:
    from raybert.artifacts import fingerprint_folder
    from raybert.corpus import Columns
    from raybert.corpus.texts import read_texts
    from raybert.evaluation import read_qrels
    from raybert.evaluation.generations import compare_generations
    from raybert.index.generations import Generations

    generations = Generations(arguments.index)
    columns = Columns(text=arguments.text_column, id=arguments.id_column)
    found = compare_generations(
        generations,
        arguments.name,
        read_texts(arguments.queries, columns),
        qrels=read_qrels(arguments.qrels) if arguments.qrels else None,
        at=arguments.at,
        models={fingerprint_folder(model): model for model in arguments.model},
    )
    generations.note(arguments.name, found.as_dict())
    if arguments.json:
        print(json.dumps(found.as_dict(), indent=2))
    else:
        for name, value in found.as_dict().items():
            say(f"{name:14} {'not judged' if value is None else f'{value:.4g}'}")
    if found.overlap < arguments.min_overlap:
        raise SettingsError(
            f"overlap@{found.at} is {found.overlap:.4f}; --min-overlap asks for "
            f"{arguments.min_overlap}"
        )
    return 0


def _switch(arguments: argparse.Namespace) -> int:
    from raybert.index.generations import Generations

    made = Generations(arguments.index).switch(arguments.name)
    return _tell(arguments, made, f"{made.name} is current")


def _roll_back(arguments: argparse.Namespace) -> int:
    from raybert.index.generations import Generations

    made = Generations(arguments.index).roll_back()
    return _tell(arguments, made, f"{made.name} is current again")


def _canary(arguments: argparse.Namespace) -> int:
    from raybert.index.generations import Generations

    generations = Generations(arguments.index)
    if arguments.name is None:
        generations.end_trial()
        say("no generation is tried any more")
        return 0
    made = generations.try_out(arguments.name, arguments.share, shadow=arguments.shadow)
    how = "compared with the current one" if made.shadow else "answering"
    say(f"{made.name} is {how} on {made.share:.0%} of the queries")
    return 0


def _tell(arguments: argparse.Namespace, made: GenerationRecord, line: str) -> int:
    if arguments.json:
        print(made.model_dump_json(indent=2))
    else:
        say(line)
    return 0


def _row(history: History, generation: GenerationRecord) -> tuple[str, ...]:
    name = generation.name
    state = "current" if name == history.current else "earlier" if name in history.earlier else ""
    legs = ", ".join(f"{leg} {each.uri}" for leg, each in generation.legs.items())
    rows = next(iter(generation.legs.values())).rows
    overlap = generation.verified.get("overlap")
    verified = "" if overlap is None else f"overlap {overlap:.3f}"
    return name, state, generation.created, f"{rows:,}", legs, verified
