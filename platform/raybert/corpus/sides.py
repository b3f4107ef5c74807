"""A side of a job that compares texts: embeddings as they are, or texts that are encoded first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from raybert.artifacts import Folder, Input, fingerprint_folder
from raybert.corpus.encode import encode_shards, scan_pieces, share_out
from raybert.corpus.encoding import Encoding
from raybert.corpus.plan import Plan, plan_shards
from raybert.corpus.progress import EncodingProgress
from raybert.corpus.read import Columns
from raybert.corpus.scan import CorpusScan, refuse_above, scan_corpus
from raybert.corpus.sources import cut_into_pieces, find_files
from raybert.corpus.write import Totals, finish_embeddings, finished_plan
from raybert.encoders import open_tokenizing
from raybert.errors import InputError
from raybert.index.source import Embeddings
from raybert.modules import locate_model

_MANIFEST = "manifest.json"
_ROWS_PER_SHARD = 4096


@dataclass(frozen=True, slots=True)
class SideEncoder:
    """How the sides of a job that are texts become embeddings.

    Args:
        out: the job's folder; a side is encoded into its folder `embeddings/NAME`, and resumed.
        model: the model; None where only embeddings are allowed.
        columns: where text and id stand.
        workers: encoding actors; 0 suits the cluster.
        device: auto, cpu or cuda.
    """

    out: str
    model: str | None
    columns: Columns
    workers: int = 0
    device: str = "auto"

    def open(self, given: Sequence[str], name: str, task: str = "document") -> Embeddings:
        """Open a side, after encoding it where it is texts.

        Args:
            given: one folder of embeddings, or files of texts.
            name: the side's name.
            task: query or document: whose prompt the model puts before the texts.

        Raises:
            ArtifactError: embeddings of another model than `model`.
            InputError: texts, but no model; or bad rows among them.
        """
        if len(given) == 1 and Folder(given[0]).exists(_MANIFEST):
            mark = None if self.model is None else fingerprint_folder(locate_model(self.model))
            return Embeddings.open(given[0], mark)
        if self.model is None:
            raise InputError(
                f"{', '.join(given)}: no finished embeddings there; to encode texts give --model"
            )
        return Embeddings.open(self._encoded(given, name, task))

    def _encoded(self, files: Sequence[str], name: str, task: str) -> str:
        """Encode texts, or what is left of them; returns the folder."""
        encoding = self._encoding(task)
        scan = scan_corpus(cut_into_pieces(find_files(list(files))), self.columns, scan_pieces)
        refuse_above(scan.rejected, 0)
        folder = Folder(f"{self.out}/embeddings/{name}")
        plan = plan_shards(folder, scan, encoding.context, _ROWS_PER_SHARD)
        if finished_plan(folder, plan) is None:
            print(f"encoding {scan.good_rows:,} texts of {name}", flush=True)
            self._encode(folder, plan, scan, encoding, files)
        return folder.uri

    def _encode(
        self, folder: Folder, plan: Plan, scan: CorpusScan, encoding: Encoding, files: Sequence[str]
    ) -> None:
        workers, threads = share_out(self.workers, self.device)
        receipts = list(plan.receipts.values())
        with EncodingProgress(scan.good_rows, Totals.of(receipts)) as progress:
            encoding = replace(encoding, threads=threads)
            for receipt in encode_shards(plan, folder, encoding, self.columns, workers):
                progress.add(receipt)
                receipts.append(receipt)
        corpus = [Folder(file).absolute for file in files]
        settings = {
            "corpus": corpus,
            "model": encoding.model,
            "text_column": self.columns.text,
            "id_column": self.columns.id,
            "truncate_dim": None,
        }
        inputs = (
            Input(kind="corpus", uri=",".join(corpus), fingerprint=scan.fingerprint),
            Input(kind="model", uri=encoding.model, fingerprint=encoding.model_fingerprint),
        )
        finish_embeddings(
            folder, plan, receipts, scan.rejected, settings=settings, inputs=inputs, mlflow_run=None
        )

    def _encoding(self, task: str) -> Encoding:
        model = locate_model(str(self.model))
        return Encoding(
            model=str(model.absolute()),
            model_fingerprint=fingerprint_folder(model),
            prompt=open_tokenizing(model).prompt(task=task),
            device=self.device,
        )
