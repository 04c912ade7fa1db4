"""One HTTP listener for a region's AWS APIs: RDS (Query protocol) and Secrets Manager (awsJson).

Which one is meant is told by the `X-Amz-Target` header. The form of Signature Version 4 is checked,
with service, region and date of the credential; the signature itself is not, as nobody has a key.

Downside: plain HTTP. A client is pointed here by an endpoint URL; no name of AWS resolves to it.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from lab.aurora import query
from lab.aurora.errors import ApiError, AuroraError
from lab.http1 import HttpServer, Request, encode_response
from lab.signature import signature_fault

_VERSION = "2014-10-31"
_TARGET = "secretsmanager."
_MAX_BODY = 2**17

Rds = Callable[[Mapping[str, str]], Awaitable[Mapping[str, Any]]]
Secrets = Callable[[Mapping[str, Any]], Awaitable[Mapping[str, Any]]]


class Api:
    """`rds` and `secrets` answer one call each; they raise ApiError."""

    def __init__(self, region: str, rds: Rds, secrets: Secrets) -> None:
        self._region = region
        self._rds = rds
        self._secrets = secrets
        self._server = HttpServer(self._handle, max_body_bytes=_MAX_BODY)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        await self._server.start(host, port)

    async def close(self) -> None:
        await self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _handle(self, request: Request) -> None:
        task = asyncio.get_running_loop().create_task(self._answer(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, request: Request) -> None:
        headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in request.headers}
        request_id = str(uuid.uuid4())
        if "x-amz-target" in headers:
            status, body = await self.json_answer(headers, request.body)
            content = b"application/x-amz-json-1.1"
        else:
            status, body = await self.query_answer(request, headers, request_id)
            content = b"text/xml"
        more = [(b"Content-Type", content), (b"x-amzn-RequestId", request_id.encode())]
        request.respond(encode_response(status, more, body.encode()))

    async def json_answer(self, headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
        try:
            self._check_signature(headers, "secretsmanager")
            if headers["x-amz-target"] != _TARGET + "GetSecretValue":
                raise ApiError("UnknownOperationException", "")
            try:
                document = json.loads(body)
            except (ValueError, RecursionError):
                document = None
            if not isinstance(document, dict):
                raise ApiError("SerializationException", "the body is not a JSON object")
            return 200, json.dumps(await self._secrets(document))
        except ApiError as error:
            return error.status, json.dumps({"__type": error.code, "Message": error.message})
        except AuroraError as error:
            return 500, json.dumps({"__type": "InternalServiceError", "Message": str(error)})

    async def query_answer(
        self, request: Request, headers: Mapping[str, str], request_id: str
    ) -> tuple[int, str]:
        try:
            self._check_signature(headers, "rds")
            params = _query_parameters(request)
            if params.get("Version") != _VERSION:
                raise ApiError("NoSuchVersion", f"the API version is {_VERSION}")
            answer = await self._rds(params)
            return 200, query.result(params["Action"], answer, request_id)
        except ApiError as error:
            return error.status, query.error(error.code, error.message, error.status, request_id)
        except AuroraError as error:
            return 500, query.error("InternalFailure", str(error), 500, request_id)

    def _check_signature(self, headers: Mapping[str, str], service: str) -> None:
        fault = signature_fault(headers, self._region, service)
        if fault is not None:
            raise ApiError(fault.code, fault.message, fault.status)


def _query_parameters(request: Request) -> dict[str, str]:
    text = request.body if request.method == "POST" else request.target.partition(b"?")[2]
    try:
        return dict(parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=200))
    except ValueError as error:
        raise ApiError("MalformedQueryString", str(error)) from error
