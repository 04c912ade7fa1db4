"""CloudWatch's HTTP listener: awsJson 1.0, which is what botocore and the `aws` command send.

CloudWatch has three protocols; a client that sends another (CBOR, Query) is told so. An error goes
out as the JSON protocol says and, with `x-amzn-query-mode`, has its old code in a header, which is
the one that boto3 shows (Smithy, "AWS JSON 1.0 protocol" and "awsQueryCompatible trait").

Downside: plain HTTP. A client is pointed here by an endpoint URL; no name of AWS resolves to it.
"""

from __future__ import annotations

import json
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from lab.cloudwatch.errors import ApiError
from lab.errors import LabError
from lab.http1 import HttpServer, Request, encode_response
from lab.signature import signature_fault

SERVICE = "monitoring"
TARGET = "GraniteServiceVersion20100801."
_NAMESPACE = "com.amazonaws.cloudwatch.v2010_08_01#"
_CONTENT_TYPE = "application/x-amz-json-1.0"
MAX_BODY = 2**20
"""`PutMetricData` takes 1 MB, unpacked too (API reference)."""

Operation = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Api:
    """`operations`: name -> answers one call; they raise ApiError."""

    def __init__(self, region: str, operations: Mapping[str, Operation]) -> None:
        self._region = region
        self._operations = operations
        self._server = HttpServer(self._handle, max_body_bytes=MAX_BODY)

    async def start(self, host: str, port: int) -> int:
        return await self._server.start(host, port)

    async def close(self) -> None:
        await self._server.close()

    def abort(self) -> None:
        """Stop listening and cut every connection."""
        self._server.abort()

    def _handle(self, request: Request) -> None:
        headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in request.headers}
        status, more, document = self.answer(request.method, headers, request.body)
        sent = [
            (b"Content-Type", _CONTENT_TYPE.encode()),
            (b"x-amzn-RequestId", str(uuid.uuid4()).encode()),
            *((name.encode(), value.encode()) for name, value in more.items()),
        ]
        request.respond(encode_response(status, sent, json.dumps(document).encode()))

    def answer(
        self, method: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], Mapping[str, Any]]:
        """Status, further headers and document. `headers`: names in small letters."""
        try:
            operation = self._operation(method, headers)
            return 200, {}, operation(_document(headers, body))
        except ApiError as error:
            return _refusal(headers, error)
        except LabError as error:
            fault = ApiError(
                "InternalServiceError", str(error), shape="InternalServiceFault", status=500
            )
            return _refusal(headers, fault)

    def _operation(self, method: str, headers: Mapping[str, str]) -> Operation:
        fault = signature_fault(headers, self._region, SERVICE)
        if fault is not None:
            raise ApiError(fault.code, fault.message, status=fault.status)
        target = headers.get("x-amz-target", "")
        if method != "POST" or not target:
            raise ApiError(
                "UnknownOperationException",
                "only CloudWatch's JSON protocol is imitated: a POST with X-Amz-Target",
            )
        name = target.removeprefix(TARGET)
        if name not in self._operations or name == target:
            raise ApiError("UnknownOperationException", f"{target} is not imitated")
        return self._operations[name]


def _document(headers: Mapping[str, str], body: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(_unpacked(headers, body) or b"{}")
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise ApiError("SerializationException", "the body is not a JSON object")
    return document


def _unpacked(headers: Mapping[str, str], body: bytes) -> bytes:
    """botocore packs a large `PutMetricData`. Raises ApiError, ValueError."""
    if headers.get("content-encoding", "").lower() != "gzip":
        return body
    unpacking = zlib.decompressobj(wbits=31)
    try:
        data = unpacking.decompress(body, MAX_BODY)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if unpacking.unconsumed_tail:
        raise ApiError("RequestEntityTooLarge", "the request is larger than 1 MB", status=413)
    return data


def _refusal(
    headers: Mapping[str, str], error: ApiError
) -> tuple[int, dict[str, str], Mapping[str, Any]]:
    more = {}
    if headers.get("x-amzn-query-mode", "").lower() == "true":
        whose = "Sender" if error.status < 500 else "Receiver"
        more["x-amzn-query-error"] = f"{error.code};{whose}"
    return error.status, more, {"__type": _NAMESPACE + error.shape, "message": error.message}
