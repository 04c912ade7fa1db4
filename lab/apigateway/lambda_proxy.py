"""The Lambda proxy integration: the event a function gets and the answer it must give. Pure.

Source: AWS docs "Lambda proxy integrations in API Gateway" (input and output format), "Binary
media types for REST APIs". `path` is the raw path and contains the base path of a custom domain;
`requestContext.path` contains the stage on the default endpoint. That a key other than the five
documented ones makes an answer malformed is not in the docs but commonly seen.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from typing import Any

from lab.apigateway.call import ACCOUNT_ID, Call
from lab.apigateway.headers import find, forwarding, returned_to_caller
from lab.apigateway.media_types import is_binary_type
from lab.apigateway.responses import FUNCTION_FAILURE, Refused
from lab.http1 import Headers, Response

_ANSWER_KEYS = frozenset(("statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"))
_NOT_IN_EVENT = frozenset(
    (
        b"connection", b"content-length", b"x-forwarded-for", b"x-forwarded-port",
        b"x-forwarded-proto", b"x-amzn-trace-id", b"x-amzn-apigateway-api-id",
    )
)  # fmt: skip


def proxy_event(call: Call) -> bytes:
    """The event, REST API format (version 1.0), as JSON."""
    return json.dumps(event_document(call)).encode()


def event_document(call: Call) -> dict[str, Any]:
    single, multiple = _headers(call)
    query: dict[str, str] = {}
    queries: dict[str, list[str]] = {}
    for name, value in call.query_pairs:
        query[name] = value
        queries.setdefault(name, []).append(value)
    body, is_binary = _body(call)
    return {
        "resource": call.method.resource_path,
        "path": call.path if call.target.is_custom else call.target.path,
        "httpMethod": call.http_method,
        "headers": single,
        "multiValueHeaders": multiple,
        "queryStringParameters": query or None,
        "multiValueQueryStringParameters": queries or None,
        "pathParameters": call.path_parameters or None,
        "stageVariables": call.target.stage.variables or None,
        "requestContext": _request_context(call, single.get("User-Agent")),
        "body": body,
        "isBase64Encoded": is_binary,
    }


def _headers(call: Call) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The last value and all values of each header, under the name as it first came."""
    single: dict[str, str] = {}
    multiple: dict[str, list[str]] = {}
    names: dict[bytes, str] = {}
    added = forwarding(call.headers, call.peer, call.port, call.trace_root, "")[:-1]
    for raw, value in [*call.headers, *added]:
        lowered = raw.lower()
        if lowered in _NOT_IN_EVENT and (raw, value) not in added:
            continue
        name = names.setdefault(lowered, _display_name(raw, lowered))
        text = value.decode("latin-1")
        single[name] = text
        multiple.setdefault(name, []).append(text)
    return single, multiple


def _display_name(raw: bytes, lowered: bytes) -> str:
    if lowered in (b"host", b"authorization", b"user-agent"):
        return lowered.decode().title()
    return raw.decode("latin-1")


def _body(call: Call) -> tuple[str | None, bool]:
    if not call.body:
        return None, False
    if is_binary_type(find(call.headers, b"content-type"), call.target.stage.api.binary_types):
        return base64.b64encode(call.body).decode(), True
    return call.body.decode("utf-8", "replace"), False


def _request_context(call: Call, user_agent: str | None) -> dict[str, Any]:
    stage = call.target.stage
    context: dict[str, Any] = {
        "accountId": ACCOUNT_ID,
        "apiId": stage.api.id,
        "deploymentId": "lab",
        "domainName": call.host,
        "domainPrefix": call.host.partition(".")[0],
        "extendedRequestId": call.extended_request_id,
        "httpMethod": call.http_method,
        "identity": {
            "accessKey": None,
            "accountId": None,
            "caller": None,
            "cognitoAuthenticationProvider": None,
            "cognitoAuthenticationType": None,
            "cognitoIdentityId": None,
            "cognitoIdentityPoolId": None,
            "principalOrgId": None,
            "sourceIp": call.peer,
            "user": None,
            "userAgent": user_agent,
            "userArn": None,
        },
        "path": call.path,
        "protocol": "HTTP/1.1",
        "requestId": call.request_id,
        "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(call.now)),
        "requestTimeEpoch": int(call.now * 1000),
        "resourceId": _resource_id(call.method.resource_path),
        "resourcePath": call.method.resource_path,
        "stage": stage.name,
    }
    if call.authorizer is not None:
        context["authorizer"] = call.authorizer
    return context


def _resource_id(path: str) -> str:
    """A stable stand-in for the six characters that API Gateway gives each resource."""
    return base64.b32encode(binascii.crc32(path.encode()).to_bytes(4, "big")).decode()[:6].lower()


def read_answer(payload: bytes, accept: bytes | None, binary_types: frozenset[str]) -> Response:
    """A function's answer as the caller gets it.

    Raises Refused (502) when it is not of the documented form.
    """
    try:
        answer = json.loads(payload)
    except ValueError:
        raise Refused(FUNCTION_FAILURE, "the function's answer is not JSON") from None
    if not isinstance(answer, dict) or not answer.keys() <= _ANSWER_KEYS:
        raise Refused(FUNCTION_FAILURE, "malformed Lambda proxy response")
    response = Response()
    response.status = _status(answer.get("statusCode", 200))
    response.headers = returned_to_caller(_answer_headers(answer))
    response.body = _answer_body(answer, is_binary_type(accept, binary_types))
    return response


def _status(given: Any) -> int:
    try:
        status = int(given) if not isinstance(given, bool) else 0
    except (TypeError, ValueError):
        status = 0
    if not 100 <= status <= 999:
        raise Refused(FUNCTION_FAILURE, f"statusCode {given!r}")
    return status


def _answer_headers(answer: dict[str, Any]) -> Headers:
    """Both header maps in one; a name in both keeps the values of `multiValueHeaders`."""
    single = answer.get("headers") or {}
    multiple = answer.get("multiValueHeaders") or {}
    if not isinstance(single, dict) or not isinstance(multiple, dict):
        raise Refused(FUNCTION_FAILURE, "headers is not an object")
    in_multiple = {name.lower() for name in multiple}
    headers: Headers = []
    for name, value in single.items():
        if name.lower() not in in_multiple:
            headers.append((_encode(name), _header_value(value)))
    for name, values in multiple.items():
        if not isinstance(values, list):
            raise Refused(FUNCTION_FAILURE, f"multiValueHeaders {name} is not a list")
        headers.extend((_encode(name), _header_value(value)) for value in values)
    return headers


def _header_value(value: Any) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str | int | float):
        return _encode(str(value))
    raise Refused(FUNCTION_FAILURE, "a header value is not text")


def _encode(text: str) -> bytes:
    """Header text as bytes; line ends would end the header, so they make the answer malformed."""
    if "\r" in text or "\n" in text:
        raise Refused(FUNCTION_FAILURE, "a header contains a line end")
    return text.encode("latin-1", "replace")


def _answer_body(answer: dict[str, Any], wants_binary: bool) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise Refused(FUNCTION_FAILURE, "body is not text")
    if answer.get("isBase64Encoded") is True and wants_binary:
        try:
            return base64.b64decode(body, validate=True)
        except binascii.Error:
            raise Refused(FUNCTION_FAILURE, "body is not base64") from None
    return body.encode()
