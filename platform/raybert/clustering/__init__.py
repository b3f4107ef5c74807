"""Clustering: k-means, agglomeration, communities, and the words that name a cluster."""

from raybert.clustering.cells import Clusters, agglomerative, assign, kmeans, learn_centres
from raybert.clustering.communities import chosen_communities, community_detection
from raybert.clustering.quality import cluster_quality
from raybert.clustering.topics import Topic, describe_topics

__all__ = [
    "Clusters",
    "Topic",
    "agglomerative",
    "assign",
    "chosen_communities",
    "cluster_quality",
    "community_detection",
    "describe_topics",
    "kmeans",
    "learn_centres",
]
