"""`raybert search`: ask an index from the command line, without a server."""

from __future__ import annotations

import argparse
import json
from typing import Any

from raybert.cli.printing import Commands, print_hits


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("search", help="ask an index")
    parser.add_argument("index", help="folder of the index")
    parser.add_argument("query", nargs="+", help="what is asked for")
    parser.add_argument("--top-k", type=int, default=5, metavar="N", help="hits (default 5)")
    parser.add_argument("--model", metavar="DIR", help="where the index's model lies now")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_search)


def _search(arguments: argparse.Namespace) -> int:
    from raybert.evaluation.searching import encoder_of, search
    from raybert.index import open_index

    index = open_index(arguments.index)
    encoder = encoder_of(index, model=arguments.model)
    query = " ".join(arguments.query)
    (ranking,) = search({"query": query}, index, encoder, arguments.top_k)
    documents = index.documents.take([hit.id for hit in ranking])
    hits: list[dict[str, Any]] = [
        {"rank": rank, "score": round(hit.score, 6), **document}
        for rank, (hit, document) in enumerate(zip(ranking, documents, strict=True), 1)
    ]
    if arguments.json:
        print(json.dumps({"query": query, "hits": hits}, indent=2, ensure_ascii=False))
    else:
        print_hits(query, hits)
    return 0
