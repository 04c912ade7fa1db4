"""Application Recovery Controller's cluster data plane: `ArcCluster`.

rules     what a safety rule refuses           (pure)
config    the cluster out of a deployment      (pure)
replicas  who sees what when, write quota      (pure, times passed in)
wire      awsJson 1.0, SigV4's form, errors    (pure)
store     switch positions on disk
api       one request -> one answer            (no sockets)
listener  one endpoint's socket
cluster   five endpoints, faults, propagation  (the shell)
errors    the exceptions of this package
"""

from lab.arc.cluster import ArcCluster
from lab.arc.config import has_cluster
from lab.arc.errors import (
    ArcConfigError,
    ArcError,
    ArcRefusedError,
    ArcStartError,
    ArcStateError,
)

__all__ = [
    "ArcCluster",
    "ArcConfigError",
    "ArcError",
    "ArcRefusedError",
    "ArcStartError",
    "ArcStateError",
    "has_cluster",
]
