"""Clustering: k-means, agglomeration, communities, and the words that name a cluster."""

from raybert.clustering.cells import Clusters, agglomerative, assign, kmeans
from raybert.clustering.communities import community_detection
from raybert.clustering.topics import Topic, describe_topics

__all__ = [
    "Clusters",
    "Topic",
    "agglomerative",
    "assign",
    "community_detection",
    "describe_topics",
    "kmeans",
]
