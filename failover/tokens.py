"""The operator's access token, from either region's user pool.

Both pools' tokens are accepted in both regions, so the first pool that answers will do: that of
the target region is asked first, because the other may be the one in trouble. The client's secret
comes from the environment, and neither it nor a token is ever printed or journaled.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

from failover.errors import CredentialsError
from failover.https import HttpsClient
from failover.ports import EndpointFailed
from failover.recovery import TokenSource

SECRET = "OPERATOR_CLIENT_SECRET"  # noqa: S105 - a variable's name
SCOPES = ("api/operate", "api/read")
TIMEOUT = 1.5
"""Seconds for one token endpoint."""
MARGIN = 30.0
"""Seconds before its end of life at which a token is replaced."""


def variable(region: str) -> str:
    """The environment variable with the secret of the client in `region`'s pool."""
    return f"{SECRET}_{region.replace('-', '_').upper()}"


def secret_for(region: str, environment: Mapping[str, str]) -> str | None:
    """The region's own variable, its name in capital or small letters, else the general one."""
    small = f"{SECRET}_{region.replace('-', '_')}"
    for name in (variable(region), small, SECRET):
        if environment.get(name):
            return environment[name]
    return None


class Tokens:
    """One token for all, kept until shortly before it ends. Callable from several threads."""

    def __init__(
        self,
        sources: Mapping[str, TokenSource],
        client: HttpsClient,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sources = sources
        self._client = client
        self._environment = environment
        self._clock = clock
        self._lock = threading.Lock()
        self._token = ""
        self._until = 0.0
        self._failed: CredentialsError | None = None
        self._failed_at = 0.0

    def get(self, region: str) -> str:
        """A token; `region`'s pool is asked first. Raises CredentialsError with every cause."""
        with self._lock:
            if self._clock() < self._until:
                return self._token
            if self._failed is not None and self._clock() < self._failed_at + TIMEOUT:
                raise self._failed  # the callers that waited meanwhile need not ask again
            causes = []
            for name in sorted(self._sources, key=lambda n: n != region):
                try:
                    self._fetch(name)
                except EndpointFailed as failure:
                    causes.append(f"{name}: {failure.cause}")
                else:
                    return self._token
            if not self._sources:
                causes.append("recovery.json has no tokens")
            self._failed = CredentialsError("no token for the operator routes:", causes)
            self._failed_at = self._clock()
            raise self._failed

    def forget(self, token: str) -> None:
        """`token` was not accepted: the next caller gets a new one."""
        with self._lock:
            if token == self._token:
                self._until = 0.0

    def _fetch(self, region: str) -> None:
        source = self._sources[region]
        secret = secret_for(region, self._environment)
        if secret is None:
            raise EndpointFailed(f"neither {variable(region)} nor {SECRET} is set")
        login = f"{quote(source.client_id, safe='')}:{quote(secret, safe='')}"
        form = {"grant_type": "client_credentials", "scope": " ".join(SCOPES)}
        asked = self._clock()
        reply = self._client.request(
            "POST",
            source.token_url,
            {
                "Authorization": "Basic " + base64.b64encode(login.encode()).decode(),
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept": "application/json",
            },
            urlencode(form).encode(),
            timeout=TIMEOUT,
        )
        token, seconds = _read(reply.status, reply.body)
        self._token, self._until = token, asked + max(0.0, seconds - MARGIN)


def _read(status: int, body: bytes) -> tuple[str, float]:
    """Token and seconds of life. Raises EndpointFailed; never with the token in the text."""
    try:
        document = json.loads(body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise EndpointFailed(f"HTTP {status}, not a token endpoint's answer")
    if status != 200:
        raise EndpointFailed(f"HTTP {status}: {str(document.get('error', 'no reason given'))[:80]}")
    token, seconds = document.get("access_token"), document.get("expires_in", 0)
    if not isinstance(token, str) or not token or not isinstance(seconds, int | float):
        raise EndpointFailed("the answer has no access_token")
    return token, float(seconds)
