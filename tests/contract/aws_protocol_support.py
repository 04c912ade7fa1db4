"""AWS requests read, and answers written, by botocore's own service models.

A request names its service and region in its signature's scope, as on AWS. It is taken apart by the
model of the operation (protocols `query`, `json`, `rest-json` and `rest-xml`) and refused if the
model does not allow it: unknown or missing members, wrong types, values outside of an enumeration,
a range or a pattern.
Answers and error codes are held against the model as well, so a stand-in built on this can neither
accept nor say what AWS's own description does not know.

Downside: signatures are not verified, only that there is one. Patterns in a dialect that Python's
`re` does not know (`\\p{L}` in tags) are not checked. What the models do not say, such as which
values go together, a stand-in has to check by itself.

    Refused            what the caller is answered
    ├── ByModel        the service model does not allow the request
    └── NotImitated    a stand-in lacks the operation; 501
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.etree.ElementTree import ParseError
from xml.sax.saxutils import escape

import botocore.session
from aws_xml_support import members_from_xml, to_xml
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.validate import ParamValidator

_SCOPE = re.compile(r"Credential=[^/]+/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")

COMMON_ERRORS = ("AccessDenied", "ExpiredToken", "Throttling", "ValidationError")
"""Of every operation, and in no model ("Common error types" of the API references)."""


class Refused(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        self.code, self.message, self.status = code, message, status
        super().__init__(f"{code}: {message}")


class ByModel(Refused):
    """The service model does not allow the request."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


class NotImitated(Refused):
    """The operation exists, but not here."""

    def __init__(self, message: str) -> None:
        super().__init__("NotImplemented", message, 501)


@dataclass(frozen=True)
class Request:
    service: str
    region: str
    operation: OperationModel
    params: dict[str, Any]
    method: str
    path: str


@functools.cache
def service_model(name: str) -> ServiceModel:
    return botocore.session.get_session().get_service_model(name)


# ---- requests


def read(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
    """The request taken apart; `validate` it next. Raises Refused for what has no place in it."""
    signed = _SCOPE.search(headers.get("Authorization", ""))
    if signed is None:
        raise Refused("MissingAuthenticationToken", "the request is not signed", 403)
    region, service = signed.groups()
    model = service_model(service)
    path, query = urlsplit(target).path, urlsplit(target).query
    if model.protocol == "query":
        operation, params = _read_query(model, body)
    elif model.protocol == "json":
        operation, params = _read_json(model, headers.get("X-Amz-Target", ""), body)
    else:
        pairs = parse_qsl(query, keep_blank_values=True)
        operation, found, pairs = _route(model, method, path, pairs)
        params = _read_rest(operation, found, pairs, body)
    return Request(service, region, operation, params, method, path)


def _read_query(model: ServiceModel, body: bytes) -> tuple[OperationModel, dict[str, Any]]:
    form = dict(parse_qsl(body.decode(), keep_blank_values=True))
    action, version = form.pop("Action", ""), form.pop("Version", "")
    if action not in model.operation_names or version != model.api_version:
        raise Refused("InvalidAction", f"no action {action!r} in version {version!r}")
    operation = model.operation_model(action)
    shape = operation.input_shape
    params = {} if shape is None else _from_form(shape, form, "")
    if form:
        raise ByModel(f"{action} does not know {', '.join(sorted(form))}")
    return operation, params


def _read_json(
    model: ServiceModel, target: str, body: bytes
) -> tuple[OperationModel, dict[str, Any]]:
    prefix, _, name = target.rpartition(".")
    if prefix != model.metadata["targetPrefix"] or name not in model.operation_names:
        raise Refused("UnknownOperationException", f"no operation {target!r}", 404)
    operation = model.operation_model(name)
    shape = operation.input_shape
    return operation, {} if shape is None else _from_json(shape, json.loads(body))


def _from_form(shape: Shape, form: dict[str, str], prefix: str) -> Any:
    """The value below `prefix`; what is used is taken out of `form`."""
    if shape.type_name == "structure":
        value = {}
        for name, member in shape.members.items():
            key = f"{prefix}{member.serialization.get('name', name)}"
            if key in form or any(k.startswith(f"{key}.") for k in form):
                value[name] = _from_form(member, form, f"{key}.")
        return value
    if shape.type_name == "list":
        items: list[Any] = []
        form.pop(prefix.rstrip("."), None)  # an empty list is sent as an empty value
        while any(k.startswith(f"{prefix}member.{len(items) + 1}") for k in form):
            items.append(_from_form(shape.member, form, f"{prefix}member.{len(items) + 1}."))
        return items
    return _scalar(shape, form.pop(prefix.rstrip(".")))


def _route(
    model: ServiceModel, method: str, path: str, pairs: list[tuple[str, str]]
) -> tuple[OperationModel, dict[str, str], list[tuple[str, str]]]:
    """The operation, what its path holds, and the query without what selects the operation."""
    best: tuple[int, OperationModel, dict[str, str], list[tuple[str, str]]] | None = None
    for name in model.operation_names:
        operation = model.operation_model(name)
        uri, _, fixed_text = operation.http["requestUri"].partition("?")
        fixed = parse_qsl(fixed_text, keep_blank_values=True)
        found = _path_pattern(uri).fullmatch(path)
        if operation.http["method"] != method or found is None or not set(fixed) <= set(pairs):
            continue
        rank = len(re.sub(r"\{[^}]*\}", "", uri)) + 100 * len(fixed)
        if best is None or rank > best[0]:
            rest = [pair for pair in pairs if pair not in fixed]
            named = _placeholders(uri)
            values = {n: unquote(v) for n, v in zip(named, found.groups(), strict=True)}
            best = rank, operation, values, rest
    if best is None:
        raise Refused("UnknownOperationException", f"nothing answers {method} {path}", 404)
    return best[1:]


def _placeholders(uri: str) -> list[str]:
    return [name.rstrip("+") for name in re.findall(r"\{([^}]*)\}", uri)]


@functools.cache
def _path_pattern(uri: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", uri.rstrip("/"))
    text = "".join(
        ("(.+)" if p.endswith("+}") else "([^/]+)") if p.startswith("{") else re.escape(p)
        for p in parts
    )
    return re.compile(text + "/?")


def _read_rest(
    operation: OperationModel, path: Mapping[str, str], pairs: list[tuple[str, str]], body: bytes
) -> dict[str, Any]:
    shape = operation.input_shape
    if shape is None:
        return {}
    params: dict[str, Any] = {}
    used = _read_located(shape, path, pairs, params)
    extra = [(k, v) for k, v in pairs if k not in used]
    for name, member in shape.members.items():
        if member.serialization.get("location") == "querystring" and member.type_name == "map":
            params |= {name: dict(extra)} if extra else {}
            extra = []
    if extra:
        raise ByModel(f"{operation.name} does not know the query {extra}")
    payload = shape.serialization.get("payload")
    if payload is None:
        in_body = {n: m for n, m in shape.members.items() if "location" not in m.serialization}
        if operation.service_model.protocol == "rest-xml":
            return params | _xml_body(shape, body)
        params |= _object(operation.name, in_body, json.loads(body) if body else {})
    elif body:
        blob = shape.members[payload].type_name == "blob"
        params[payload] = body if blob else _from_json(shape.members[payload], json.loads(body))
    return params


def _xml_body(shape: Shape, body: bytes) -> dict[str, Any]:
    try:
        return members_from_xml(shape, body) if body else {}
    except (ParseError, ValueError) as error:
        raise ByModel(str(error)) from None


def _read_located(
    shape: Shape, path: Mapping[str, str], pairs: list[tuple[str, str]], params: dict[str, Any]
) -> set[str]:
    """Puts members of path and query into `params`; the names of the query that were used."""
    used = set()
    for name, member in shape.members.items():
        where, said = member.serialization.get("location"), member.serialization.get("name", name)
        if where == "uri":
            params[name] = _scalar(member, path[said])
        elif where == "querystring" and member.type_name != "map":
            values = [v for k, v in pairs if k == said]
            used.add(said)
            if values and member.type_name == "list":
                params[name] = [_scalar(member.member, v) for v in values]
            elif values:
                params[name] = _scalar(member, values[-1])
    return used


def _object(at: str, members: Mapping[str, Shape], given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise ByModel(f"{at}: {given!r} is not an object")
    names = {member.serialization.get("name", name): name for name, member in members.items()}
    if unknown := sorted(given.keys() - names.keys()):
        raise ByModel(f"{at} does not know {', '.join(unknown)}")
    return {
        names[key]: _from_json(members[names[key]], value)
        for key, value in given.items()
        if value is not None
    }


def _from_json(shape: Shape, given: Any) -> Any:
    if shape.type_name == "structure":
        return _object(shape.name, shape.members, given)
    if shape.type_name == "list" and isinstance(given, list):
        return [_from_json(shape.member, item) for item in given]
    if shape.type_name == "map" and isinstance(given, dict):
        return {key: _from_json(shape.value, item) for key, item in given.items()}
    if shape.type_name == "blob" and isinstance(given, str):
        return base64.b64decode(given, validate=True)
    return given


def _scalar(shape: Shape, text: str) -> Any:
    if shape.type_name in ("integer", "long") and re.fullmatch(r"-?\d+", text):
        return int(text)
    if shape.type_name == "boolean" and text in ("true", "false"):
        return text == "true"
    return text


# ---- what the model allows


def validate(request: Request) -> None:
    """Raises ByModel with every fault of one kind: members and types first, then their values."""
    operation, params = request.operation, request.params
    shape = operation.input_shape
    if shape is None:
        return
    report = ParamValidator().validate(params, shape)
    if report.has_errors():
        raise ByModel(f"{operation.name}: {report.generate_report()}")
    if faults := list(_faults(shape, params, operation.name)):
        raise ByModel("; ".join(faults))


def _faults(shape: Shape, value: Any, at: str) -> Iterator[str]:
    """What botocore leaves to AWS: enumerations, upper limits, patterns."""
    if shape.type_name == "structure":
        for name, item in value.items():
            yield from _faults(shape.members[name], item, f"{at}.{name}")
        return
    if shape.type_name == "list":
        for item in value:
            yield from _faults(shape.member, item, f"{at}[]")
    elif shape.type_name == "map":
        for key, item in value.items():
            yield from _faults(shape.key, key, f"{at} key")
            yield from _faults(shape.value, item, f"{at}[{key}]")
    yield from _value_faults(shape, value, at)


def _value_faults(shape: Shape, value: Any, at: str) -> Iterator[str]:
    rule = shape.metadata
    if value not in rule.get("enum", [value]):
        yield f"{at}: {value!r} is not one of {', '.join(rule['enum'])}"
    size = value if isinstance(value, int | float) else len(value)
    if size > rule.get("max", size):
        yield f"{at}: {size} is more than {rule['max']}"
    pattern = _pattern(rule.get("pattern", ""))
    if pattern and isinstance(value, str) and not pattern.fullmatch(value):
        yield f"{at}: {value!r} does not match {pattern.pattern}"


@functools.cache
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text) if text else None
    except re.error:
        return None


# ---- answers


def answer(request: Request, result: Mapping[str, Any], number: int) -> tuple[int, str, bytes]:
    """Status, content type and body. Raises AssertionError for what the model does not know."""
    operation = request.operation
    shape = operation.output_shape
    if shape is not None:
        report = ParamValidator().validate(dict(result), shape)
        assert not report.has_errors(), f"{operation.name}: {report.generate_report()}"
    else:
        assert not result
    protocol = operation.service_model.protocol
    if protocol == "query":
        return 200, "text/xml", _query_answer(operation, result, number)
    status = operation.http.get("responseCode", 200)
    if protocol == "rest-xml":
        inner = "" if shape is None else to_xml(shape, result)
        return status, "text/xml", f"<Answer>{inner}</Answer>".encode()
    return status, "application/json", _json_answer(shape, result, status)


def _json_answer(shape: Shape | None, result: Mapping[str, Any], status: int) -> bytes:
    if status == 204:
        return b""
    payload = shape.serialization.get("payload") if shape is not None else None
    if shape is not None and payload and shape.members[payload].type_name == "blob":
        return bytes(result[payload])
    return json.dumps(_to_json(shape, result)).encode()


def _query_answer(operation: OperationModel, result: Mapping[str, Any], number: int) -> bytes:
    shape = operation.output_shape
    inner = ""
    if shape is not None:
        wrapper = shape.serialization["resultWrapper"]
        inner = f"<{wrapper}>{to_xml(shape, result)}</{wrapper}>"
    space = operation.metadata.get("xmlNamespace", "")
    return (
        f'<{operation.name}Response xmlns="{space}">{inner}<ResponseMetadata><RequestId>'
        f"{number}</RequestId></ResponseMetadata></{operation.name}Response>"
    ).encode()


def _to_json(shape: Shape | None, value: Any) -> Any:
    if shape is None:
        return {}
    if shape.type_name == "structure":
        return {
            shape.members[name].serialization.get("name", name): _to_json(shape.members[name], item)
            for name, item in value.items()
        }
    if shape.type_name == "list":
        return [_to_json(shape.member, item) for item in value]
    return int(value.timestamp()) if isinstance(value, datetime) else value


def refusal(request: Request | None, refused: Refused, number: int) -> tuple[int, str, bytes, str]:
    """Status, content type, body and error type of an error.

    Raises AssertionError for an error that the operation does not have.
    """
    status = refused.status
    if request is not None and not isinstance(refused, ByModel | NotImitated):
        known = {s.error_code: s for s in request.operation.error_shapes}
        if refused.code not in COMMON_ERRORS:
            assert refused.code in known, f"{request.operation.name} has no error {refused.code}"
            status = known[refused.code].metadata.get("error", {}).get("httpStatusCode", status)
    if request is not None and request.operation.service_model.protocol in ("query", "rest-xml"):
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{refused.code}</Code><Message>"
            f"{escape(refused.message)}</Message></Error><RequestId>{number}</RequestId>"
            "</ErrorResponse>"
        )
        return status, "text/xml", text.encode(), refused.code
    body = json.dumps({"__type": refused.code, "message": refused.message}).encode()
    return status, "application/json", body, refused.code
