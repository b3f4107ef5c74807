"""A corpus: read, checked, encoded shard by shard on Ray Data, searched."""

from raybert.corpus.cluster import connect
from raybert.corpus.encode import encode_shards, scan_pieces, share_out
from raybert.corpus.encoding import Encoding
from raybert.corpus.plan import Plan, Receipt, plan_shards
from raybert.corpus.progress import EncodingProgress
from raybert.corpus.read import Columns, Row, read_rows
from raybert.corpus.scan import CorpusScan, Rejection, refuse_above, scan_corpus
from raybert.corpus.settle import settle_backend, settle_ranges
from raybert.corpus.sources import Piece, cut_into_pieces, find_files
from raybert.corpus.write import REJECTED, Totals, finish_embeddings, finished_plan

__all__ = [
    "REJECTED",
    "Columns",
    "CorpusScan",
    "Encoding",
    "EncodingProgress",
    "Piece",
    "Plan",
    "Receipt",
    "Rejection",
    "Row",
    "Totals",
    "connect",
    "cut_into_pieces",
    "encode_shards",
    "find_files",
    "finish_embeddings",
    "finished_plan",
    "plan_shards",
    "read_rows",
    "refuse_above",
    "scan_corpus",
    "scan_pieces",
    "settle_backend",
    "settle_ranges",
    "share_out",
]
