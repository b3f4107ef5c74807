"""What mining reads beside scores: vectors, ids and texts of embeddings, in corpus order."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.corpus.read import Columns
from raybert.corpus.search import read_ids
from raybert.corpus.texts import read_texts
from raybert.errors import ArtifactError, InputError
from raybert.index.source import Embeddings


def read_vectors(embeddings: Embeddings) -> npt.NDArray[np.float32]:
    """Return all vectors, [N, D], in memory."""
    return np.concatenate([vectors for _, vectors in embeddings.tables()])


def read_embedded_texts(embeddings: Embeddings, corpus: list[str] | None = None) -> list[str]:
    """Return the text of every row, in corpus order.

    Args:
        embeddings: what was encoded.
        corpus: where the corpus lies now; None: where it lay when it was encoded.

    Raises:
        ArtifactError: a row's text is no longer there.
    """
    settings: dict[str, Any] = embeddings.manifest.settings
    columns = Columns(settings["text_column"], settings["id_column"])
    texts = read_texts(corpus or settings["corpus"], columns)
    ids = read_ids(embeddings).to_pylist()
    lost = next((identifier for identifier in ids if identifier not in texts), None)
    if lost is not None:
        raise ArtifactError(f"{embeddings.folder}: row {lost!r} is not in the corpus any more")
    return [texts[identifier] for identifier in ids]


def rows_of_ids(embeddings: Embeddings, wanted: list[str], what: str) -> npt.NDArray[np.int64]:
    """Return the row of each id.

    Raises:
        InputError: there is no such id; the message says `what` named it.
    """
    places = {identifier: row for row, identifier in enumerate(read_ids(embeddings).to_pylist())}
    missing = next((identifier for identifier in wanted if identifier not in places), None)
    if missing is not None:
        raise InputError(f"{what}: id {missing!r} is not in {embeddings.folder}")
    return np.array([places[identifier] for identifier in wanted], np.int64)
