"""The operator routes of a service with a database, at the names pinned to a region.

The operator stands outside the VPC: these routes are how the tool reaches the write fence, through
the same gateway, function and proxy that users' writes take. That is what makes an opened fence a
proof. The downside: a region whose gateway is gone cannot be fenced from here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from failover.aws import seconds
from failover.database import Depth, Fence, Heartbeat, Lag
from failover.dns import SystemResolver
from failover.errors import CallRejected, FenceRefusal
from failover.https import HttpsClient, Reply
from failover.ports import EndpointFailed, Resolver
from failover.recovery import Recovery, Service
from failover.together import TooLate, bounded
from failover.tokens import Tokens

FENCE, DEPTH, LAG = "/_ops/fence", "/_ops/depth", "/_ops/lag"


class HttpsOperator:
    """`ports.Operator` over kept connections."""

    def __init__(
        self, recovery: Recovery, resolver: Resolver, environment: Mapping[str, str] = os.environ
    ) -> None:
        self._client = HttpsClient(recovery.domain, resolver, SystemResolver(), recovery.ca_file)
        self._tokens = Tokens(recovery.tokens, self._client, environment)
        self._prefer: str | None = None

    def close(self) -> None:
        """Closes the kept connections."""
        self._client.close()

    def prefer(self, region: str) -> None:
        self._prefer = region

    def fence(self, service: Service, region: str, timeout: float) -> Fence:
        return read_fence(self._json(service, region, "GET", FENCE, None, timeout))

    def set_fence(self, service: Service, region: str, wanted: Fence, timeout: float) -> Fence:
        body = {
            "epoch": wanted.epoch,
            "active_region": wanted.active_region,
            "state": wanted.state,
        }
        return read_fence(self._json(service, region, "PUT", FENCE, body, timeout))

    def depth(self, service: Service, region: str, timeout: float) -> Depth:
        document = self._json(service, region, "GET", DEPTH, None, timeout, also=503)
        if "writable" not in document:
            raise EndpointFailed(_detail(document, 503))
        fence = document.get("fence")
        problems = [
            f"{end}: {document[end].get('detail', 'does not answer')}"
            for end in ("writer", "reader")
            if isinstance(document.get(end), dict) and not document[end].get("ok")
        ]
        return Depth(
            bool(document["writable"]),
            bool(document.get("readable")),
            read_fence(fence) if isinstance(fence, dict) else None,
            tuple(problems),
        )

    def lag(self, service: Service, region: str, timeout: float) -> Lag:
        document = self._json(service, region, "GET", LAG, None, timeout)
        ms, beat = document.get("lag_milliseconds"), document.get("heartbeat")
        heartbeat = None
        if isinstance(beat, dict):
            try:
                age = float(beat["age_milliseconds"])
                heartbeat = Heartbeat(str(beat["region"]), str(beat["at"]), age)
            except (KeyError, TypeError, ValueError) as error:
                raise EndpointFailed("an answer without a usable heartbeat") from error
        return Lag(float(ms) if isinstance(ms, int | float) else None, heartbeat)

    def _json(
        self,
        service: Service,
        region: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout: float,
        also: int = 200,
    ) -> dict[str, Any]:
        """A JSON object of a 200, or of `also`."""

        def exchange() -> Reply:
            return self._authorized(service, region, method, path, body, timeout)

        try:
            reply = bounded(exchange, timeout)
        except TooLate as late:
            raise EndpointFailed(str(late), ambiguous=True) from None
        document = _document(reply)
        if reply.status not in (200, also) or not document:
            raise refusal(reply, document)
        return document

    def _authorized(
        self,
        service: Service,
        region: str,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        timeout: float,
    ) -> Reply:
        """One exchange; once more with a new token if the gateway does not take this one."""
        content = None if body is None else json.dumps(body).encode()
        for attempt in (1, 2):
            token = self._tokens.get(self._prefer or region)
            headers = {"Authorization": token, "Accept": "application/json"}
            if content is not None:
                headers["Content-Type"] = "application/json"
            url = service.pinned[region].rstrip("/") + path
            reply = self._client.request(method, url, headers, content, timeout=timeout)
            if reply.status != 401 or attempt == 2:
                break
            self._tokens.forget(token)
        return reply


def refusal(reply: Reply, document: Mapping[str, Any]) -> Exception:
    """What an answer that is no success means. Pure."""
    detail = _detail(document, reply.status)
    if reply.status == 409:
        fence = document.get("fence")
        try:
            now = read_fence(fence) if isinstance(fence, dict) else Fence(0, "", "")
        except EndpointFailed:
            now = Fence(0, "", "")
        return FenceRefusal(detail, now.epoch, now.active_region, now.state)
    if 400 <= reply.status < 500 and reply.status != 429:
        return CallRejected(f"HTTP {reply.status}", detail, "the operator route")
    applied = document.get("applied") != "no"
    return EndpointFailed(
        detail, ambiguous=applied, retry_after=seconds(reply.headers.get("retry-after"))
    )


def read_fence(document: Mapping[str, Any]) -> Fence:
    epoch, region, state = (document.get(k) for k in ("epoch", "active_region", "state"))
    if not (isinstance(epoch, int) and isinstance(region, str) and isinstance(state, str)):
        raise EndpointFailed("an answer without a fence")
    return Fence(epoch, region, state)


def _document(reply: Reply) -> dict[str, Any]:
    try:
        document = json.loads(reply.body)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _detail(document: Mapping[str, Any], status: int) -> str:
    said = document.get("detail") or document.get("title") or document.get("message")
    return f"HTTP {status}: {str(said)[:200]}" if said else f"HTTP {status}"
