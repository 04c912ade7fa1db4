"""`RegionalGateway`: API Gateway of one region behind one HTTPS listener.

A request's way: host name and base path pick the API, its path and method pick the integration,
the authorizer has its say, the integration answers. Each step either goes on or raises `Refused`
with the gateway response that API Gateway gives there. The decisions are pure and live in the
other modules; this one has the sockets, the clock and the counters.

Downside: one process with one event loop is the whole region; HTTP/1.1 only; the Host header alone
picks the domain (AWS also looks at the TLS server name); no stage throttling, caching or logs.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import ssl
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Any, Protocol

from lab.apigateway import responses
from lab.apigateway.authorizer import COGNITO, Authorizer, Refusal
from lab.apigateway.call import Call
from lab.apigateway.configuration import hosts_of
from lab.apigateway.definition import HttpProxy, LambdaProxy, Method, Mock
from lab.apigateway.domains import Target
from lab.apigateway.headers import find, returned_to_caller
from lab.apigateway.http_proxy import encode_request, method_of
from lab.apigateway.lambda_proxy import proxy_event, read_answer
from lab.apigateway.media_types import pass_through
from lab.apigateway.pool import ConnectionKnobs, ConnectionPool, NameResolver
from lab.apigateway.responses import GatewayResponse, Refused
from lab.dns_client import ResolutionError
from lab.http1 import ConnectionLost, Headers, HttpServer, Request, Response, encode_response
from lab.lambda_runtime import InvokeResult
from lab.model import Deployment

MAX_BODY_BYTES = 10_485_760
"""AWS docs "Amazon API Gateway quotas": payload size 10 MB."""
MAX_HEAD_BYTES = 10_240
"""The same page: total size of request line and header values."""
_PINGS = ("/ping", "/sping")
_CLOSE_GRACE = 5.0
logger = logging.getLogger(__name__)

Events = Callable[[Mapping[str, Any]], None]
"""Gets an event, a JSON-like object with its `kind`."""


class Functions(Protocol):
    """What the gateway needs of Lambda, e.g. `lab.lambda_runtime.LambdaService`."""

    async def invoke(
        self, name: str, payload: bytes, *, trace_header: str | None = None
    ) -> InvokeResult: ...


def _ignore(event: Mapping[str, Any]) -> None:
    del event


class RegionalGateway:
    """The domain names and APIs of `region` in `deployment`.

    `client_ssl` verifies integrations (it trusts the lab's certificate authority); `port_map` says
    which port of the lab stands for a port in an integration's address; without an `authorizer` a
    protected method refuses everybody; `on_event` is told of address changes of integrations,
    failed integrations and cuts. Raises GatewayConfigError.
    """

    def __init__(
        self,
        region: str,
        deployment: Deployment,
        functions: Functions,
        resolver: NameResolver,
        *,
        client_ssl: ssl.SSLContext,
        connections: ConnectionKnobs | None = None,
        port_map: Mapping[int, int] | None = None,
        authorizer: Authorizer | None = None,
        on_event: Events = _ignore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.region = region
        self._hosts = hosts_of(deployment, region)
        self._functions = functions
        self._resolver = resolver
        self._authorizer = authorizer
        self._on_event = on_event
        self._clock = clock
        self._pool = ConnectionPool(
            resolver, client_ssl, connections or ConnectionKnobs(), port_map or {}, on_event
        )
        self._server = HttpServer(
            self._on_request,
            refuse=self._refuse_unreadable,
            max_head_bytes=MAX_HEAD_BYTES,
            max_body_bytes=MAX_BODY_BYTES,
        )
        self._listener: tuple[str, int, ssl.SSLContext | None] | None = None
        self._is_cut = False
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._by_status: Counter[int] = Counter()
        self._refusals: Counter[str] = Counter()
        self._integrations: dict[str, _Latency] = {}
        self._date = (0, b"")

    async def start(self, host: str, port: int, ssl_context: ssl.SSLContext | None) -> int:
        """Listen; returns the port. Raises OSError if it is taken."""
        self._port = await self._server.start(host, port, ssl_context)
        self._listener = (host, self._port, ssl_context)
        return self._port

    async def close(self) -> None:
        """Stop listening; requests in flight get a few seconds to end."""
        await self._server.close(_CLOSE_GRACE)
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pool.close()

    async def set_cut(self, on: bool) -> None:
        """A network partition: the listener refuses and all connections break; the process lives.

        False ends it. Raises OSError if the port has been taken meanwhile.
        """
        if on == self._is_cut or self._listener is None:
            return
        self._is_cut = on
        self._on_event({"kind": "cut", "region": self.region, "on": on})
        if on:
            self._server.abort()
            self._pool.cut()
        else:
            await self._server.start(*self._listener)

    def set_connection_knobs(self, knobs: ConnectionKnobs) -> None:
        """Change the knobs while it runs; kept connections are judged by the new ones."""
        self._pool.knobs = knobs

    def status(self) -> dict[str, Any]:
        """Counters since the start; latencies in milliseconds."""
        return {
            "hosts": list(self._hosts.names),
            "cut": self._is_cut,
            "requests": self._by_status.total(),
            "by_status": {str(status): count for status, count in self._by_status.items()},
            "gateway_responses": dict(self._refusals),
            "integrations": {kind: taken.status() for kind, taken in self._integrations.items()},
            "in_flight": len(self._tasks),
            "connections": self._pool.status(),
            "dns": self._resolver.status(),
        }

    # --- one request

    def _on_request(self, request: Request) -> None:
        task = asyncio.create_task(self._serve(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, request: Request) -> None:
        now = self._clock()
        request_id = str(uuid.uuid4())
        extended_id = base64.b64encode(os.urandom(11)).decode()
        root = _trace_root(find(request.headers, b"x-amzn-trace-id"), now)
        try:
            response = await self._answer(request, now, request_id, extended_id, root)
        except Refused as refused:
            response = self._refusal(refused, request)
        except Exception:
            logger.exception("%s %r failed in the gateway", request.method, request.target)
            response = self._refusal(Refused(responses.INTERNAL), request)
        self._by_status[response.status] += 1
        headers = response.headers
        headers += (
            (b"x-amzn-RequestId", request_id.encode()),
            (b"x-amz-apigw-id", extended_id.encode()),
            (b"X-Amzn-Trace-Id", b"Root=" + root.encode()),
            (b"Date", self._http_date(now)),
        )
        if self._server.draining:
            headers.append((b"Connection", b"close"))
        request.respond(
            encode_response(
                response.status, headers, response.body, without_body=request.method == "HEAD"
            )
        )

    async def _answer(
        self, request: Request, now: float, request_id: str, extended_id: str, root: str
    ) -> Response:
        path, _, query = request.target.decode("latin-1").partition("?")
        if path[:1] != "/":
            raise Refused(responses.UNREADABLE[400], "the request target is not a path")
        host = _host(request.headers)
        if path in _PINGS and host in self._hosts.names:
            return _text("healthy")
        target = self._hosts.target(host, path)
        method, path_parameters = _route(target, request.method)
        claims = await self._authorize(method, request.headers)
        call = Call(
            region=self.region,
            http_method=request.method,
            path=path,
            query=query,
            headers=request.headers,
            body=request.body,
            peer=request.peer,
            port=self._port,
            host=host,
            now=now,
            request_id=request_id,
            extended_request_id=extended_id,
            trace_root=root,
            target=target,
            method=method,
            path_parameters=path_parameters,
            authorizer=claims,
        )
        return await self._integrate(call)

    async def _authorize(self, method: Method, headers: Headers) -> Mapping[str, Any] | None:
        authorization = method.authorization
        if authorization is None:
            return None
        if self._authorizer is None or authorization.kind != COGNITO:
            raise Refused(
                responses.AUTHORIZER_CONFIGURATION, f"no authorizer of type {authorization.kind}"
            )
        token = find(headers, authorization.header.lower().encode())
        if not token:
            raise Refused(responses.UNAUTHORIZED, f"no {authorization.header} header")
        verdict = await self._authorizer.authorize(authorization, token.decode("latin-1"))
        if isinstance(verdict, Refusal):
            raise Refused(responses.unauthorized(verdict.message))
        return {"claims": dict(verdict)}

    async def _integrate(self, call: Call) -> Response:
        integration = call.method.integration
        if isinstance(integration, Mock):
            return _mock(integration)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(integration.timeout):
                if isinstance(integration, LambdaProxy):
                    return await self._invoke(integration, call)
                return await self._forward(integration, call)
        except TimeoutError:
            raise Refused(responses.INTEGRATION_TIMEOUT, "the integration took too long") from None
        finally:
            kind = "lambda" if isinstance(integration, LambdaProxy) else integration.host
            self._integrations.setdefault(kind, _Latency()).add(time.perf_counter() - started)

    async def _invoke(self, integration: LambdaProxy, call: Call) -> Response:
        result = await self._functions.invoke(
            integration.function_arn, proxy_event(call), trace_header=f"Root={call.trace_root}"
        )
        if result.status_code != 200:
            raise Refused(
                _LAMBDA_REFUSALS.get(result.status_code, responses.API_CONFIGURATION),
                f"Lambda answered {result.status_code}",
            )
        if result.function_error is not None:
            raise Refused(responses.FUNCTION_FAILURE, result.payload.decode("utf-8", "replace"))
        return read_answer(
            result.payload, find(call.headers, b"accept"), call.target.stage.api.binary_types
        )

    async def _forward(self, integration: HttpProxy, call: Call) -> Response:
        try:
            response = await self._pool.request(
                integration.host,
                integration.port,
                is_tls=integration.is_tls,
                method=method_of(integration, call),
                request=encode_request(integration, call),
            )
        except (ResolutionError, ssl.SSLCertVerificationError) as error:
            raise Refused(responses.API_CONFIGURATION, str(error)) from None
        except (ConnectionLost, OSError) as error:
            raise _network_failure(error) from None
        content_type = find(response.headers, b"content-type")
        binary_types = call.target.stage.api.binary_types
        response.body = pass_through(response.body, content_type, binary_types)
        response.headers = returned_to_caller(response.headers)
        return response

    # --- what it says itself

    def _refusal(self, refused: Refused, request: Request) -> Response:
        given: GatewayResponse = refused.response
        self._refusals[given.type] += 1
        if given.status >= 500:
            self._on_event(
                {
                    "kind": "integration_failed",
                    "target": request.target.decode("latin-1"),
                    "type": given.type,
                    "status": given.status,
                    "cause": refused.cause,
                }
            )
        response = Response()
        response.status = given.status
        response.headers = given.headers
        response.body = given.body
        return response

    def _refuse_unreadable(self, status: int) -> bytes:
        self._by_status[status] += 1
        return responses.unreadable(status)

    def _http_date(self, now: float) -> bytes:
        second = int(now)
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]


class _Latency:
    """Count, sum and maximum of durations in seconds."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._max = 0.0

    def add(self, seconds: float) -> None:
        self._count += 1
        self._sum += seconds
        self._max = max(self._max, seconds)

    def status(self) -> dict[str, float]:
        mean = self._sum / self._count
        return {"count": self._count, "mean_ms": mean * 1000, "max_ms": self._max * 1000}


_LAMBDA_REFUSALS = {
    413: responses.FUNCTION_PAYLOAD_TOO_LARGE,
    429: responses.FUNCTION_THROTTLED,
}


def _network_failure(error: Exception) -> Refused:
    if isinstance(error, TimeoutError):  # the system's own, from connect
        return Refused(responses.INTEGRATION_TIMEOUT, str(error))
    return Refused(responses.INTEGRATION_FAILURE, str(error))


def _trace_root(given: bytes | None, now: float) -> str:
    """The caller's trace root, or a new one."""
    for part in (given or b"").split(b";"):
        key, _, value = part.strip().partition(b"=")
        if key == b"Root" and value:
            return value.decode("latin-1")
    return f"1-{int(now):08x}-{os.urandom(12).hex()}"


def _host(headers: Headers) -> str:
    value = find(headers, b"host") or b""
    return value.decode("latin-1").partition(":")[0].rstrip(".").lower()


def _route(target: Target, http_method: str) -> tuple[Method, Mapping[str, str]]:
    found = target.stage.api.router.match(target.path)
    if found is None:
        raise Refused(responses.MISSING_TOKEN, f"no resource fits {target.path}")
    resource, path_parameters = found
    method = resource.method(http_method)
    if method is None:
        raise Refused(responses.MISSING_TOKEN, f"{resource.path} has no method {http_method}")
    return method, path_parameters


def _text(body: str) -> Response:
    response = Response()
    response.status = 200
    response.headers = [(b"Content-Type", b"text/plain")]
    response.body = body.encode()
    return response


def _mock(mock: Mock) -> Response:
    response = Response()
    response.status = mock.status
    response.headers = [(n.encode(), v.encode("latin-1")) for n, v in mock.headers]
    if not any(name.lower() == b"content-type" for name, _ in response.headers):
        response.headers.append((b"Content-Type", b"application/json"))
    response.body = mock.body.encode()
    return response
