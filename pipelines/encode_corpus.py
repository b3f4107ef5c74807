"""Encode a corpus: texts and a model in, an embeddings artifact out.

    python pipelines/encode_corpus.py --corpus data/demo/docs.parquet \
        --model all-MiniLM-L6-v2 --out artifacts/demo/embeddings

Run the same command again to resume it, or to encode what changed in the corpus.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from raybert.artifacts import Folder, Input, fingerprint_folder
from raybert.corpus import (
    Columns,
    Encoding,
    EncodingProgress,
    Totals,
    cut_into_pieces,
    encode_shards,
    find_files,
    finish_embeddings,
    finished_plan,
    plan_shards,
    refuse_above,
    scan_corpus,
    scan_pieces,
    settle_backend,
    settle_ranges,
    share_out,
)
from raybert.encoders import open_tokenizing
from raybert.modules import locate_model
from raybert.settings import JobSettings, Names, run_job
from raybert.tracking import job


class EncodeCorpus(JobSettings):
    """Encode a corpus: texts and a model in, an embeddings artifact out."""

    corpus: Names
    """Parquet, JSONL, CSV, TSV or text files: paths, folders, globs, remote addresses, hf://."""
    model: str
    """Model folder in the Sentence Transformers format, or a hub's name."""
    text_column: str = "text"
    """Column that holds the text."""
    id_column: str = "id"
    """Column that holds the row's unique id; '' names rows FILE:ROW, as is done for text files."""
    image_column: str | None = None
    """Column that holds images to encode in place of texts, by a model that reads them (CLIP): a
    file's bytes, its path, or datasets' cells; --text-column may then name their captions."""
    prompt_name: str | None = None
    """Prompt of the model to put before every text; default: the model's prompt for documents."""
    precision: Literal["float32", "float16", "int8", "uint8", "binary", "ubinary"] = "float32"
    """How vectors are stored; binary ones are packed, eight dimensions a byte."""
    calibration_rows: int = Field(20_000, ge=0)
    """Rows whose vectors set the ranges of int8 and uint8, spread over the corpus; 0: all rows."""
    normalize: bool = False
    """Scale vectors to unit length."""
    truncate_dim: int | None = Field(None, ge=1)
    """Keep this many dimensions (Matryoshka models)."""
    max_active_dims: int | None = Field(None, ge=1)
    """Keep this many weights of each text (sparse models)."""
    max_seq_length: int | None = Field(None, ge=1)
    """Cut texts to this many tokens; default: the model's own limit."""
    tokens_per_batch: int | None = Field(None, ge=1)
    """Tokens in a padded batch, per worker; default: what suits the device."""
    rows_per_shard: int = Field(4096, ge=1)
    """Rows in a shard: what is lost at most when a worker dies."""
    workers: int = Field(0, ge=0)
    """Encoding actors; 0: one a GPU, else the cluster's cores shared out."""
    device: str = "auto"
    """auto, cpu or cuda."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format to compute in."""
    backend: str = "torch"
    """torch, onnx, openvino, a file of theirs (onnx:model_O3.onnx), or auto: the fastest here."""
    max_rejected: int = Field(0, ge=0)
    """Bad rows (null, not text, duplicate id, undecodable) to leave out before the job stops."""


def main(settings: EncodeCorpus) -> str:
    """Encode the corpus; returns where the artifact lies."""
    encoding = _encoding(settings)
    columns = Columns.of(settings.text_column, settings.id_column, settings.image_column)
    pieces = cut_into_pieces(find_files(settings.corpus))
    scan = scan_corpus(pieces, columns, scan_pieces)
    refuse_above(scan.rejected, settings.max_rejected)

    folder = Folder(settings.out)
    encoding = settle_ranges(
        folder,
        settle_backend(folder, encoding),
        scan,
        columns,
        workers=settings.workers,
        rows_per_shard=settings.rows_per_shard,
        rows=settings.calibration_rows,
    )
    plan = plan_shards(folder, scan, encoding.context, settings.rows_per_shard)
    if (done := finished_plan(folder, plan)) is not None:
        print(f"nothing to do: all {done.rows:,} rows are encoded already")
        return settings.out

    with job(settings, name=f"encode {Path(settings.out).name}", kind="encode_corpus") as run:
        corpus = [Folder(pattern).absolute for pattern in settings.corpus]
        inputs = (
            Input(kind="corpus", uri=",".join(corpus), fingerprint=scan.fingerprint),
            Input(kind="model", uri=encoding.model, fingerprint=encoding.model_fingerprint),
        )
        for item in inputs:
            run.input(item.kind, item.uri, item.fingerprint)
        workers, threads = share_out(settings.workers, settings.device)
        receipts = list(plan.receipts.values())
        left_out = [*scan.rejected, *(row for receipt in receipts for row in receipt.rejected)]
        refuse_above(left_out, settings.max_rejected)
        with EncodingProgress(scan.good_rows, Totals.of(receipts)) as progress:
            encoding = replace(encoding, threads=threads)
            for receipt in encode_shards(plan, folder, encoding, columns, workers):
                progress.add(receipt)
                receipts.append(receipt)
                left_out += receipt.rejected
                refuse_above(left_out, settings.max_rejected)
                run.metrics(progress.metrics(), step=progress.done)
        manifest = finish_embeddings(
            folder,
            plan,
            receipts,
            scan.rejected,
            settings=settings.model_dump(mode="json") | {"corpus": corpus},
            inputs=inputs,
            mlflow_run=run.run_id,
        )
    now = progress.totals
    print(f"{manifest.rows:,} rows: {now.encoded:,} encoded and {now.reused:,} reused now")
    return settings.out


def _encoding(settings: EncodeCorpus) -> Encoding:
    """Settle the model and its prompt."""
    model = locate_model(settings.model)
    prompt = open_tokenizing(model).prompt(prompt_name=settings.prompt_name, task="document")
    names = ("normalize", "truncate_dim", "max_active_dims", "max_seq_length", "precision")
    return Encoding(
        model=str(model.absolute()),
        model_fingerprint=fingerprint_folder(model),
        prompt=prompt,
        tokens_per_batch=settings.tokens_per_batch,
        images=settings.image_column is not None,
        **settings.model_dump(include={*names, "dtype", "device", "backend"}),
    )


if __name__ == "__main__":
    run_job(EncodeCorpus, main)
