"""Lineage: the tree of inputs of an artifact, back to the corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from raybert.artifacts.folder import Folder
from raybert.artifacts.manifest import Input, Manifest, finished, read_manifest


@dataclass(frozen=True, slots=True)
class Lineage:
    """One node of the tree.

    Args:
        input: what the parent says it was made from.
        manifest: the artifact that lies at that address now, if any.
        inputs: the nodes this one was made from.
    """

    input: Input
    manifest: Manifest | None
    inputs: tuple[Lineage, ...]

    @property
    def state(self) -> str:
        """`same` as when it was used, `changed` since, or `source` where no manifest lies."""
        if self.manifest is None:
            return "source"
        return "same" if self.manifest.fingerprint == self.input.fingerprint else "changed"

    def as_dict(self) -> dict[str, Any]:
        """Return the tree as JSON-like data."""
        manifest = self.manifest
        return {
            **self.input.model_dump(),
            "state": self.state,
            "rows": manifest.rows if manifest else None,
            "created": manifest.created if manifest else None,
            "mlflow_run": manifest.mlflow_run if manifest else None,
            "inputs": [node.as_dict() for node in self.inputs],
        }


def lineage(uri: str) -> Lineage:
    """Return the tree of inputs of the artifact at `uri`.

    Raises:
        ArtifactError: there is no finished artifact.
    """
    manifest = read_manifest(uri)
    return _node(Input(kind=manifest.kind, uri=uri, fingerprint=manifest.fingerprint))


def _node(item: Input) -> Lineage:
    # A corpus is named by its files or globs, which are sources and not artifacts.
    manifest = None if item.kind == "corpus" else finished(Folder(item.uri))
    unchanged = manifest is not None and manifest.fingerprint == item.fingerprint
    inputs = manifest.inputs if manifest is not None and unchanged else ()
    return Lineage(item, manifest, tuple(_node(child) for child in inputs))
