"""Several evaluators as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raybert.errors import InputError
from raybert.evaluation.evaluator import Evaluator
from raybert.evaluation.metrics import Metrics


def _last(scores: Sequence[float]) -> float:
    return scores[-1]


class SequentialEvaluator(Evaluator):
    """Runs evaluators one after the other and joins their numbers.

    Args:
        evaluators: the evaluators; names tell their metrics apart.
        main_score_function: from their primary metrics, in order, to `sequential_score`; the last
            if nothing else is said.
    """

    primary = "sequential_score"

    def __init__(
        self,
        evaluators: Iterable[Evaluator],
        main_score_function: Callable[[Sequence[float]], float] = _last,
    ) -> None:
        super().__init__()
        self._evaluators = list(evaluators)
        if not self._evaluators:
            raise InputError("a sequential evaluator needs at least one evaluator")
        self._main_score = main_score_function

    def __call__(self, encoder: Any) -> Metrics:
        """Return all metrics and `sequential_score`.

        Raises:
            InputError: two evaluators give a metric of the same name.
        """
        metrics: Metrics = {}
        scores: list[float] = []
        for evaluator in self._evaluators:
            found = evaluator(encoder)
            twice = metrics.keys() & found.keys()
            if twice:
                raise InputError(f"metric {min(twice)!r} comes twice: give evaluators other names")
            metrics |= found
            scores.append(found[evaluator.primary_metric])
        return metrics | {"sequential_score": float(self._main_score(scores))}
