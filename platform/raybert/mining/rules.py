"""The rules a hard negative must pass, and the ranks it may stand at."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raybert.errors import SettingsError
from raybert.settings import Settings


class NegativeRules(Settings):
    """Which of the nearest rows of the corpus may serve as negatives of a query.

    All scores are those of the teacher where there is one, else of the retriever. Margins are
    taken from the lowest score among the query's positives.
    """

    num_negatives: int = Field(3, ge=1)
    """Negatives wanted a query."""
    range_min: int = Field(0, ge=0)
    """Candidates to pass over, counted from the best that passes all rules."""
    range_max: int | None = Field(None, ge=1)
    """Candidates to look at; default: enough for the rules that are set."""
    max_score: float | None = None
    """A negative scores at most this."""
    min_score: float | None = None
    """A negative scores at least this."""
    absolute_margin: float | None = None
    """A negative scores at least this much less than the positive."""
    relative_margin: float | None = None
    """A negative scores less than the positive by at least this share of the positive's score."""
    percent_of_positive: float | None = Field(None, gt=0, le=100)
    """A negative scores at most this many percent of the positive's score (NV-Retriever,
    arXiv:2407.15831: 95)."""
    sampling_strategy: Literal["top", "random"] = "top"
    """Take the best candidates, or draw among them."""
    seed: int = 0
    """Of the draw; it depends on seed, query and candidate alone."""
    include_positives: bool = False
    """Let positives stand among the negatives, to rank them all (n-tuple only)."""

    @property
    def asks_scores(self) -> bool:
        """Whether a rule looks at scores; without one a teacher is not asked."""
        return self._by_positive or self.max_score is not None or self.min_score is not None

    @property
    def _by_positive(self) -> bool:
        margins = (self.absolute_margin, self.relative_margin, self.percent_of_positive)
        return any(margin is not None for margin in margins)

    def window(self, most_positives: int, *, teacher: bool = False) -> int:
        """Return how many candidates are looked at: `range_max`, or what suits the rules.

        Args:
            most_positives: pairs of the query that has most.
            teacher: whether a teacher scores the candidates.

        Raises:
            SettingsError: the ranks leave no room for the negatives wanted.
        """
        wanted = self.num_negatives
        drops = self._by_positive or self.max_score is not None
        drops = drops or (teacher and self.min_score is not None)
        default = self.range_min + wanted * (10 if drops else 1) + most_positives
        last = default if self.range_max is None else self.range_max
        if last - self.range_min < wanted:
            raise SettingsError(
                f"range_min {self.range_min} to range_max {last} leaves "
                f"{max(0, last - self.range_min)} candidates; num_negatives asks for {wanted}"
            )
        return last
