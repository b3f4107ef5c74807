"""Arithmetic of embeddings: similarity, exact top-k, quantization."""

from raybert.vectors.pairs import TopPairs, top_pairs
from raybert.vectors.quantization import PRECISIONS, Precision, Ranges, dequantize, quantize
from raybert.vectors.similarity import (
    SIMILARITIES,
    Similarity,
    Vectors,
    as_vectors,
    cos_sim,
    dot_score,
    euclidean_sim,
    manhattan_sim,
    pairwise_angle_sim,
    pairwise_cos_sim,
    pairwise_dot_score,
    pairwise_euclidean_sim,
    pairwise_manhattan_sim,
    pick_similarity,
)
from raybert.vectors.topk import TopK, best, block_topk, blocks_of, exact_topk

__all__ = [
    "PRECISIONS",
    "SIMILARITIES",
    "Precision",
    "Ranges",
    "Similarity",
    "TopK",
    "TopPairs",
    "Vectors",
    "as_vectors",
    "best",
    "block_topk",
    "blocks_of",
    "cos_sim",
    "dequantize",
    "dot_score",
    "euclidean_sim",
    "exact_topk",
    "manhattan_sim",
    "pairwise_angle_sim",
    "pairwise_cos_sim",
    "pairwise_dot_score",
    "pairwise_euclidean_sim",
    "pairwise_manhattan_sim",
    "pick_similarity",
    "quantize",
    "top_pairs",
]
