"""Mine hard negatives: known pairs, a corpus and a model in, a pairs artifact out.

    python pipelines/mine_hard_negatives.py --pairs data/demo/qrels.tsv \
        --queries data/demo/queries.parquet --corpus data/demo/docs.parquet \
        --model all-MiniLM-L6-v2 --rules.relative-margin 0.05 --out artifacts/negatives

Pairs may also be two columns of texts: then queries, and the corpus beside the positives, need
not be given. Queries and corpus may be embeddings that encode_corpus wrote. What a killed run
encoded or compared is not done again. The result loads as it is with `datasets.load_dataset`.
"""

from typing import Literal

from pydantic import Field

from raybert.artifacts import Folder, Input, fingerprint, fingerprint_folder, read_manifest
from raybert.corpus import Columns
from raybert.corpus.joined import known_rows, read_embedded_texts
from raybert.corpus.negatives import joined_negatives
from raybert.corpus.pairs import Result, produce
from raybert.corpus.search import read_ids
from raybert.corpus.sides import SideEncoder
from raybert.corpus.text_pairs import LAID_OUT, lay_out_pairs
from raybert.encoders import CrossEncoder
from raybert.errors import SettingsError
from raybert.evaluation import read_qrels
from raybert.index.source import Embeddings
from raybert.mining import NegativeRules, Positives, Texts, negatives_table, text_teacher
from raybert.modules import locate_model
from raybert.settings import JobSettings, Names, run_job


class MineHardNegatives(JobSettings):
    """Mine hard negatives: known pairs, a corpus and a model in, a pairs artifact out."""

    pairs: str
    """Which text answers which anchor: by id (TREC qrels, BEIR's table), with --queries and
    --corpus; or a file with two columns of texts."""
    queries: Names | None = None
    """The anchors: files of texts, or one folder of embeddings; default: those of --pairs."""
    corpus: Names | None = None
    """The texts to mine in, likewise; default: the positives of --pairs."""
    model: str | None = None
    """Model that encodes texts; embeddings must be of it."""
    text_column: str = "text"
    """Column that holds the text of queries and corpus."""
    id_column: str = "id"
    """Column that holds their unique id."""
    anchor_column: str = "anchor"
    """Column of --pairs that holds the anchors, where they are texts."""
    positive_column: str = "positive"
    """Column of --pairs that holds the texts that answer them."""
    rules: NegativeRules = NegativeRules()
    """What makes a negative."""
    output_format: Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"] = "n-tuple"
    """Shape of a row: one negative; all of them; a labelled pair; a labelled list."""
    output_scores: bool = False
    """Scores beside texts, or instead of labels."""
    runs: Names | None = None
    """What other retrievers found for these queries: folders of runs that search_corpus wrote
    (BM25, sparse, several indexes); their hits are candidates beside the model's neighbours."""
    merge: Literal["union", "rrf"] = "union"
    """How candidates of several retrievers are ordered: the best of each in turn, or by the sum of
    1 / (60 + rank). Rules look at the model's score of each, or the teacher's."""
    teacher: str | None = None
    """Cross-encoder folder whose scores the rules look at."""
    query_texts: Names | None = None
    """Where the texts of embedded queries lie now; default: where they lay when encoded."""
    corpus_texts: Names | None = None
    """Where the texts of an embedded corpus lie now; default: where they lay when encoded."""
    workers: int = Field(0, ge=0)
    """Tasks at a time; 0: the cluster's cores."""
    device: str = "auto"
    """auto, cpu or cuda, for model and teacher."""


def main(settings: MineHardNegatives) -> str:
    """Mine; returns where the pairs lie."""
    columns = Columns(settings.text_column, settings.id_column)
    if settings.queries is None:
        names = settings.anchor_column, settings.positive_column
        laid = lay_out_pairs([settings.pairs], *names, settings.corpus, columns, settings.out)
        queries, corpus, known, columns = [laid.queries], [laid.corpus], laid.known, LAID_OUT
    else:
        if settings.corpus is None:
            raise SettingsError("--corpus is required with --queries")
        queries, corpus, known = settings.queries, settings.corpus, read_qrels(settings.pairs)
    encoder = SideEncoder(settings.out, settings.model, columns, settings.workers, settings.device)
    sides = encoder.open(queries, "queries", "query"), encoder.open(corpus, "corpus")
    inputs = [Input(kind="pairs", uri=settings.pairs, fingerprint=fingerprint(known))]
    inputs += [*sides[0].inputs[:1], *sides[1].inputs]
    for run in settings.runs or []:
        mark = read_manifest(Folder(run), kind="run").fingerprint
        inputs.append(Input(kind="run", uri=run, fingerprint=mark))
    if settings.teacher is not None:
        mark = fingerprint_folder(locate_model(settings.teacher))
        inputs.append(Input(kind="model", uri=settings.teacher, fingerprint=mark))
    at = known_rows(*sides, known, settings.pairs)
    positives = Positives.of(*at, sides[0].manifest.rows)
    return produce(
        settings,
        "mine_hard_negatives",
        "pairs",
        inputs,
        lambda _: _mine(settings, *sides, positives),
    )


def _mine(
    settings: MineHardNegatives, queries: Embeddings, corpus: Embeddings, positives: Positives
) -> Result:
    """Join, choose, and lay out as rows."""
    rules, teacher = settings.rules, None
    anchors = read_embedded_texts(queries, settings.query_texts)
    texts = read_embedded_texts(corpus, settings.corpus_texts)
    if settings.teacher is not None and rules.asks_scores:
        cross = CrossEncoder(locate_model(settings.teacher), device=settings.device)
        teacher = text_teacher(cross.predict, anchors, texts)
    mined = joined_negatives(
        queries,
        corpus,
        positives,
        rules,
        settings.out,
        teacher=teacher,
        runs=settings.runs or [],
        merge=settings.merge,
        workers=settings.workers,
    )
    table = negatives_table(
        mined,
        positives,
        Texts(read_ids(queries), anchors),
        Texts(read_ids(corpus), texts),
        settings.output_format,
        output_scores=settings.output_scores,
    )
    counts = {"candidates": mined.candidates, "dropped": mined.dropped}
    said = f"{table.num_rows:,} rows of {len(positives.rows):,} pairs; dropped {mined.dropped}"
    return Result(table, counts, said)


if __name__ == "__main__":
    run_job(MineHardNegatives, main)
