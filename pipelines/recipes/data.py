"""Make the recipes' rows of the bundled manuals; or of any documents with id, title and text.

    python pipelines/recipes/data.py --out artifacts/recipes/data

Nobody labelled these texts, so labels are derived from where a text stands, and say no more than
that: a heading and its own section (1, or class 0), another section of the same page (0.5, or
class 1), a section of another page (0, or class 2). A page is wholly for training or for testing.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from raybert.settings import CommandSettings, run_job

Section = dict[str, str]


class RecipeData(CommandSettings):
    """Make the recipes' rows of documents with id, title and text."""

    documents: str = "data/demo/docs.parquet"
    """Parquet of documents; what stands before `#` in an id is its page."""
    out: str = "artifacts/recipes/data"
    """Folder to write to."""
    test_share: float = 0.2
    """Share of the pages that is kept for testing."""
    seed: int = 1
    """Seed of the sections drawn from other pages."""


def main(settings: RecipeData) -> str:
    """Write the tables; returns where they lie."""
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    sections: list[Section] = pq.read_table(settings.documents).to_pylist()
    parts: dict[bool, list[Section]] = {True: [], False: []}
    for section in sections:
        parts[_share(_page(section)) < settings.test_share].append(section)
    draw = random.Random(settings.seed)
    for tested, known in parts.items():
        name = "test" if tested else "train"
        for kind, rows in _tables(known, draw).items():
            pq.write_table(pa.Table.from_pylist(rows), out / f"{kind}_{name}.parquet")
            print(f"{kind}_{name}: {len(rows):,} rows")
    corpus = pa.table({key: [one[key] for one in sections] for key in ("id", "text")})
    pq.write_table(corpus, out / "corpus.parquet")
    asked = [{"id": f"q{at}", "text": one["title"]} for at, one in enumerate(parts[True])]
    pq.write_table(pa.Table.from_pylist(asked), out / "queries.parquet")
    known_answers = [(f"q{at}", one["id"]) for at, one in enumerate(parts[True])]
    lines = [f"{query}\t0\t{document}\t1" for query, document in known_answers]
    (out / "qrels.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return settings.out


def _tables(sections: list[Section], draw: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each kind."""
    graded: list[dict[str, Any]] = [
        {"sentence1": one["title"], "sentence2": other["text"], "score": 1 - nearness / 2}
        for one, other, nearness in _pairs(sections, draw)
    ]
    return {
        "titles": [{"anchor": one["title"], "positive": one["text"]} for one in sections],
        "texts": [{"text": one["text"]} for one in sections],
        "graded": graded,
        "classes": [
            {
                "sentence1": row["sentence1"],
                "sentence2": row["sentence2"],
                "label": round(2 - 2 * row["score"]),
            }
            for row in graded
        ],
        "lists": _lists(graded),
        "triplets": [
            {"anchor": one["title"], "positive": one["text"], "negative": other["text"]}
            for one, other, nearness in _pairs(sections, draw)
            if nearness == 1
        ],
        "halves": [
            {"sentence1": _half(one, 0), "sentence2": _half(other, 1), "label": int(one is other)}
            for one, other, nearness in _pairs(sections, draw)
            if nearness != 1
        ],
    }


def _lists(graded: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return each heading with all the sections it was paired with, and their grades."""
    lists: dict[str, dict[str, Any]] = {}
    for row in graded:
        query = row["sentence1"]
        found = lists.setdefault(query, {"query": query, "documents": [], "labels": []})
        found["documents"].append(row["sentence2"])
        found["labels"].append(row["score"])
    return list(lists.values())


def _pairs(sections: list[Section], draw: random.Random) -> Iterator[tuple[Section, Section, int]]:
    """Yield each section with itself (0), one of the same page (1), one of another page (2)."""
    pages: dict[str, list[Section]] = {}
    for section in sections:
        pages.setdefault(_page(section), []).append(section)
    for section in sections:
        yield section, section, 0
        beside = [other for other in pages[_page(section)] if other is not section]
        if beside:
            yield section, draw.choice(beside), 1
        while _page(other := draw.choice(sections)) == _page(section):
            pass
        yield section, other, 2


def _half(section: Section, which: int) -> str:
    """Return the first or the second half of a section's words."""
    words = section["text"].split()
    middle = (len(words) + 1) // 2
    return " ".join(words[middle:] if which else words[:middle]) or section["title"]


def _page(section: Section) -> str:
    return section["id"].split("#")[0]


def _share(page: str) -> float:
    """Return a number from 0 to 1 that depends on the page alone."""
    return xxhash.xxh3_64_intdigest(page.encode()) / 2**64


if __name__ == "__main__":
    run_job(RecipeData, main)
