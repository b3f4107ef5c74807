"""Encoders: texts to vectors or scores, in three methods: pre (CPU), core (device), post (CPU)."""

from raybert.encoders.base import Encoder
from raybert.encoders.batching import token_batches
from raybert.encoders.card import ModelCard
from raybert.encoders.cross import CrossEncoder
from raybert.encoders.dense import DenseEncoder
from raybert.encoders.endpoint import EndpointEncoder
from raybert.encoders.open import open_encoder
from raybert.encoders.sparse import SparseEncoder
from raybert.encoders.tokenizing import Tokenizing, open_tokenizing

__all__ = [
    "CrossEncoder",
    "DenseEncoder",
    "Encoder",
    "EndpointEncoder",
    "ModelCard",
    "SparseEncoder",
    "Tokenizing",
    "open_encoder",
    "open_tokenizing",
    "token_batches",
]
