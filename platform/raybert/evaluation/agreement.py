"""How far two ways of running one model agree: numbers, directions, and the order of documents.

Shapes: Q queries, N documents, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from raybert.encoders import CrossEncoder, Encoder, SparseEncoder

Array = npt.NDArray[np.floating[Any]]

MOST = 500
"""Documents of which every pair is looked at."""
TIE = 1e-5
"""Documents whose scores differ by less may stand in either order."""

QUERIES = (
    "how do I restart a service",
    "what is the capital of Portugal",
    "symptoms of a cold",
    "convert a list to a dictionary in Python",
    "best time of year to see whales",
    "who wrote the first dictionary of English",
    "¿cómo se hace el pan?",
    "price of 2.5 kg apples",
)
"""Questions of the probe set."""

DOCUMENTS = (
    "Use systemctl restart NAME to stop a service and start it again.",
    "Lisbon, on the river Tagus, is the capital and largest city of Portugal.",
    "A runny nose, sneezing and a sore throat are usual; fever is rare in adults.",
    "dict(zip(keys, values)) pairs two lists; dict(pairs) takes a list of tuples.",
    "Humpback whales pass the coast from May to July and return with calves in October.",
    "Samuel Johnson's dictionary appeared in 1755; Robert Cawdrey's list of words in 1604.",
    "El pan se hace con harina, agua, sal y levadura; la masa reposa antes de hornearse.",
    "Apples cost 3.20 a kilogram this week, pears 2.90 and plums 4.",
    "In computing, a daemon is a program that runs in the background without a terminal.",
    "Porto gave its name to the country and to port wine.",
    "Influenza begins suddenly, with fever, aching muscles and exhaustion. " * 6,
    "Lists keep the order in which items were added; dictionaries do too since version 3.7.",
    "Krill, small fish and plankton are what most whales live on.",
    "日本語の辞書は平安時代にさかのぼる。",
    "Ein Laib Brot wiegt meist ein Kilogramm.",
    "1 kg = 2.2046 lb; 2.5 kg = 5.5116 lb.",
    "a",
    "The train to the north leaves at 07:45 from platform 3, except on Sundays and holidays.",
    "def restart(name): stop(name); start(name)  # nothing more is needed",
    "Vitamin C neither prevents a cold nor shortens it by much, as most trials have found. "
    "Rest, fluids and time remain the treatment; antibiotics do nothing against viruses. " * 4,
    "naïve café, smörgåsbord, Žižek, œuvre",
    "🐋 🐳 seen off the cape this morning!",
    "The mayor opened the new bridge yesterday in heavy rain.",
    "Interest is compounded monthly at a nominal rate of 4.8 percent.",
)
"""Documents of the probe set: short, long, cut off, and in several scripts."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a model gave for a probe set.

    Args:
        vectors: [Q + N, D] float32, the queries first; None for a model that scores pairs.
        scores: [Q, N]: similarity, or score, of every query with every document.
    """

    vectors: Array | None
    scores: Array


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two outputs agree.

    Args:
        max_difference: greatest absolute difference of a number (of a vector, else of a score).
        min_cosine: least cosine of a text's two vectors; of pairs' scores, their correlation.
        mean_cosine: its mean.
        ranking: share of the pairs of documents that both put in the same order for a query.
    """

    max_difference: float
    min_cosine: float
    mean_cosine: float
    ranking: float

    def as_dict(self) -> dict[str, float]:
        """Return the four numbers by name."""
        return asdict(self)


def outputs(
    encoder: Encoder,
    queries: Sequence[str] = QUERIES,
    documents: Sequence[str] = DOCUMENTS,
) -> Outputs:
    """Run a model, of whichever kind, over a probe set."""
    if isinstance(encoder, CrossEncoder):
        pairs = [(query, document) for query in queries for document in documents]
        scores = encoder.predict(pairs).reshape(len(queries), len(documents), -1)
        return Outputs(None, scores[:, :, 0] if scores.shape[2] == 1 else _flat(scores))
    model: Any = encoder
    options: dict[str, Any] = {"convert_to_tensor": True}
    if isinstance(encoder, SparseEncoder):
        options |= {"convert_to_sparse_tensor": False, "save_to_cpu": True}
    of_queries = model.encode_query(list(queries), **options).cpu()
    of_documents = model.encode_document(list(documents), **options).cpu()
    similarity = model.similarity(of_queries, of_documents)
    vectors = np.concatenate([of_queries.numpy(), of_documents.numpy()])
    return Outputs(vectors, similarity.numpy())


def compare(one: Outputs, other: Outputs) -> Agreement:
    """Compare outputs for the same texts; `one` is the reference for the ranking's ties."""
    if one.vectors is not None and other.vectors is not None:
        left, right = one.vectors, other.vectors
    else:
        left, right = _centred(one.scores), _centred(other.scores)
    if left.shape != right.shape:
        return Agreement(float("inf"), -1.0, -1.0, 0.0)
    difference = np.abs(left - right)
    cosines = _cosines(left, right)
    return Agreement(
        max_difference=_finite(difference.max()),
        min_cosine=float(cosines.min()),
        mean_cosine=float(cosines.mean()),
        ranking=_same_order(one.scores, other.scores),
    )


def _same_order(one: Array, other: Array) -> float:
    """Return the share of pairs of documents that both put in the same order, over all queries."""
    first, second = np.triu_indices(min(one.shape[1], MOST), k=1)
    ours = one[:, first] - one[:, second]
    theirs = other[:, first] - other[:, second]
    same = (ours * theirs > 0) | (np.abs(ours) <= TIE)
    return float(same.mean()) if same.size else 1.0


def _cosines(left: Array, right: Array) -> Array:
    """Return the cosine of every row with its counterpart; two zero rows agree."""
    lengths = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    both_zero = ~left.any(axis=1) & ~right.any(axis=1)
    products = (left.astype(np.float64) * right).sum(axis=1)
    cosines: Array = np.zeros(len(left))
    np.divide(products, lengths, out=cosines, where=lengths > 0)
    cosines[~np.isfinite(lengths)] = -1.0
    cosines[both_zero] = 1.0
    return cosines


def _centred(scores: Array) -> Array:
    """Take each query's mean score away, so that the cosine of two rows is their correlation."""
    centred: Array = scores - scores.mean(axis=1, keepdims=True)
    return centred


def _flat(scores: Array) -> Array:
    """Lay the scores of several labels side by side, [Q, N·L]."""
    return scores.reshape(scores.shape[0], -1)


def _finite(value: Any) -> float:
    return float(value) if np.isfinite(value) else float("inf")
