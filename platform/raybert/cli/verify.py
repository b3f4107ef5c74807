"""`raybert verify`: does a model folder give in raybert what the reference implementation gives?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raybert.cli.printing import Commands
from raybert.errors import InputError

if TYPE_CHECKING:
    from raybert.evaluation.agreement import Agreement

EQUAL, DIFFERS = 0, 1


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="compare a model folder with sentence-transformers, as a gate before deploying",
        epilog="Exit status: 0 equal; 1 differs; 2 cannot be compared (no such model, or the "
        "reference is not there).",
    )
    parser.add_argument("model", help="folder in the Sentence Transformers format")
    parser.add_argument("--min-cosine", type=float, default=0.99999, metavar="C", help="0.99999")
    parser.add_argument(
        "--max-difference", type=float, default=1e-3, metavar="D", help="of any number: 0.001"
    )
    parser.add_argument("--min-ranking", type=float, default=0.999, metavar="R", help="0.999")
    parser.add_argument("--backend", default="torch", help="torch, onnx, openvino or auto")
    parser.add_argument("--texts", metavar="FILE", help="documents of your own, one a line")
    parser.add_argument(
        "--reference",
        metavar="PROGRAM",
        help="Python file that gives the reference's numbers: the checkout's tests/oracle.py",
    )
    parser.add_argument("--trust-remote-code", action="store_true", help="run the folder's code")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.set_defaults(run=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from raybert.encoders import open_encoder
    from raybert.evaluation import agreement, reference
    from raybert.modules import locate_model

    documents = _documents(arguments.texts) or list(agreement.DOCUMENTS)
    folder, trust = locate_model(arguments.model), arguments.trust_remote_code
    encoder = open_encoder(
        folder,
        device="cpu",
        dtype="float32",
        backend=arguments.backend,
        trust_remote_code=trust,
    )
    (capability,) = encoder.capabilities
    ours = agreement.outputs(encoder, agreement.QUERIES, documents)
    program = Path(arguments.reference) if arguments.reference else reference.ORACLE
    name, theirs = reference.reference_outputs(
        folder, capability, agreement.QUERIES, documents, program=program, trust_remote_code=trust
    )
    found = agreement.compare(theirs, ours)
    faults = _faults(found, arguments)
    said = {
        "model": str(folder),
        "fingerprint": encoder.fingerprint,
        "kind": capability,
        "backend": arguments.backend,
        "reference": name,
        "texts": len(agreement.QUERIES) + len(documents),
        **found.as_dict(),
        "equal": not faults,
        "faults": faults,
    }
    _print(said, as_json=arguments.json)
    return DIFFERS if faults else EQUAL


def _documents(file: str | None) -> list[str]:
    """Read texts, one a line.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    if file is None:
        return []
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--texts {file}: {error}") from None
    if not (texts := [line for line in lines if line.strip()]):
        raise InputError(f"--texts {file}: no text in it")
    return texts


def _faults(found: Agreement, arguments: argparse.Namespace) -> list[str]:
    """Say which numbers are out of bounds."""
    faults = []
    if not found.min_cosine >= arguments.min_cosine:
        faults.append(f"min_cosine {found.min_cosine:.6f} < {arguments.min_cosine}")
    if not found.max_difference <= arguments.max_difference:
        faults.append(f"max_difference {found.max_difference:.2e} > {arguments.max_difference}")
    if not found.ranking >= arguments.min_ranking:
        faults.append(f"ranking {found.ranking:.4f} < {arguments.min_ranking}")
    return faults


def _print(said: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(said, indent=2))
        return
    print(f"{said['model']}: {said['kind']}, {said['texts']} texts, beside {said['reference']}")
    for name in ("max_difference", "min_cosine", "mean_cosine", "ranking"):
        form = ".1e" if name == "max_difference" else ".7f"
        print(f"  {name.replace('_', ' '):<15} {said[name]:{form}}")
    print("equal" if said["equal"] else f"differs: {'; '.join(said['faults'])}")
