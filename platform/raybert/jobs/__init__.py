"""Jobs and the platform they run on: start it here, or submit to a cluster anywhere.

>>> from raybert.jobs import Jobs, find_cluster                         # doctest: +SKIP
>>> jobs = Jobs(find_cluster("http://head:8265"))                       # doctest: +SKIP
>>> job_id = jobs.submit("pipelines/encode_corpus.py", ["--out", "s3://…"], {})  # doctest: +SKIP
>>> jobs.follow(job_id, print).status                                   # doctest: +SKIP
'SUCCEEDED'
"""

from raybert.jobs.applications import Application, applications, deploy, wait_until_served
from raybert.jobs.checkout import checkout_of
from raybert.jobs.cluster import Cluster, find_cluster, settings_from
from raybert.jobs.local_platform import ServiceStatus, down, status, up
from raybert.jobs.network import Network, no_namespaces
from raybert.jobs.state import NodeSettings, PlatformSettings, PlatformState, RayHead, RayNode
from raybert.jobs.submit import Job, Jobs

__all__ = [
    "Application",
    "Cluster",
    "Job",
    "Jobs",
    "Network",
    "NodeSettings",
    "PlatformSettings",
    "PlatformState",
    "RayHead",
    "RayNode",
    "ServiceStatus",
    "applications",
    "checkout_of",
    "deploy",
    "down",
    "find_cluster",
    "no_namespaces",
    "settings_from",
    "status",
    "up",
    "wait_until_served",
]
