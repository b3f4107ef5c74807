"""`raybert search`: ask an index from the command line, without a server."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from raybert.cli.printing import Commands, print_hits

if TYPE_CHECKING:
    from raybert.encoders import DenseEncoder
    from raybert.index import Index


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
    from raybert.index import open_index

    index = open_index(arguments.index)
    encoder = _encoder_of(index, arguments.model)
    query = " ".join(arguments.query)
    options = {"truncate_dim": index.settings.get("truncate_dim")}
    hits = _found(index, encoder.encode_query([query], **options), arguments.top_k)
    if arguments.json:
        print(json.dumps({"query": query, "hits": hits}, indent=2, ensure_ascii=False))
    else:
        print_hits(query, hits)
    return 0


def _encoder_of(index: Index, model: str | None) -> DenseEncoder:
    """Open the model an index is pinned to.

    Raises:
        ArtifactError: the model that lies there is another one.
        ModelError: it is no dense model.
    """
    from raybert.artifacts import fingerprint_folder
    from raybert.encoders import DenseEncoder, open_encoder
    from raybert.errors import ArtifactError, ModelError
    from raybert.modules import locate_model

    folder = locate_model(model or index.model_uri)
    found = fingerprint_folder(folder)
    if found != index.model_fingerprint:
        raise ArtifactError(
            f"model {folder}: fingerprint {found[:16]}, but the index was made by "
            f"{index.model_fingerprint[:16]}; give that model's folder by --model"
        )
    encoder = open_encoder(folder)
    if not isinstance(encoder, DenseEncoder):
        raise ModelError(f"model {folder}: not a dense encoder")
    return encoder


def _found(index: Index, queries: Any, top_k: int) -> list[dict[str, Any]]:
    """Return the hits of one query with their documents."""
    (hits,) = index.search(queries, top_k)
    documents = index.documents.take([hit.id for hit in hits])
    return [
        {"rank": rank, "score": round(hit.score, 6), **document}
        for rank, (hit, document) in enumerate(zip(hits, documents, strict=True), 1)
    ]
