"""boto3 clients, one per service and region, each with a time-out on every call.

A boto3 client may be used from several threads, a session may not; so clients are made under a lock
and kept. Regions are always given: what the shell has in AWS_DEFAULT_REGION never decides where
something is made.

Downside: AWS's own retry (five attempts) hides short faults of the network; a call may take a
minute and a half before it fails.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

import boto3
from botocore.config import Config

ARC_CONTROL_REGION = "us-west-2"
"""Where the control plane of ARC's routing control is (endpoints page of the AWS reference)."""

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "total_max_attempts": 5},
)
_DATA_PLANE = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 1})
"""An endpoint of an ARC cluster that fails is not asked again; the next one is."""


class Clients(Protocol):
    """Where clients come from; tests have their own."""

    def get(self, service: str, region: str) -> Any:
        """The client of `service` in `region`."""

    def cluster_endpoint(self, url: str, region: str) -> Any:
        """A client for one endpoint of an ARC cluster."""


class AwsClients:
    """Clients with the credentials of the shell, or of the profile named."""

    def __init__(self, profile: str | None = None) -> None:
        self._profile, self._lock = profile, threading.Lock()
        self._session: Any = None
        self._clients: dict[tuple[str, str], Any] = {}

    def get(self, service: str, region: str) -> Any:
        with self._lock:
            if (service, region) not in self._clients:
                self._clients[service, region] = self._made(service, region, config=_CONFIG)
            return self._clients[service, region]

    def cluster_endpoint(self, url: str, region: str) -> Any:
        with self._lock:
            service = "route53-recovery-cluster"
            return self._made(service, region, config=_DATA_PLANE, endpoint_url=url)

    def _made(self, service: str, region: str, **options: Any) -> Any:
        if self._session is None:
            self._session = boto3.session.Session(profile_name=self._profile)
        return self._session.client(service, region_name=region, **options)
