"""Requests to values, or one InvalidRequest that names every fault of the request.

Each fault says where it is: `pointer` (RFC 6901) into the body, `parameter` in the query or the
path, or `header`. Nothing is corrected silently; only `page_size` is capped, as documented.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequest
from .fence import DRAINING, MAX_EPOCH, OPEN, Fence
from .model import MAX_TASK, STATUSES, Changes, Condition, Key

MAX_BODY = 32 * 1024
"""Bytes: a task of 2000 characters, each escaped as two \\uXXXX, fits."""
MAX_PAGE = 100
DEFAULT_PAGE = 50
MAX_ERRORS = 100
JSON_TYPE = "application/json"
PATCH_TYPE = "application/merge-patch+json"

_UUID7 = re.compile(
    r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}"
)
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Control characters but tab and line ends."""
_KEY = re.compile(r'"([ !#-\[\]-~]{1,128})"|([A-Za-z0-9_.:-]{1,128})')
"""A structured-field string without escapes, or, leniently, the same without quotes."""
_ETAGS = re.compile(r'\s*(?:W/)?"[!#-~]*"\s*(?:,\s*(?:W/)?"[!#-~]*"\s*)*')
_ETAG = re.compile(r'(W/)?"([!#-~]*)"')
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_READ_ONLY = ("id", "created_at", "updated_at", "revision", "region")
_BY_WEIGHT = (413, 415, 400)
"""The status of a request with several faults is the first of these that one of them has."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as API Gateway's proxy event has it."""

    headers: Mapping[str, list[str]]
    """Lower-case names."""
    query: Mapping[str, list[str]]
    path: Mapping[str, str]
    body: str | None
    is_base64: bool

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Call:
        many = event.get("multiValueHeaders") or {
            name: [value] for name, value in (event.get("headers") or {}).items()
        }
        return cls(
            {name.lower(): values for name, values in many.items()},
            event.get("multiValueQueryStringParameters") or {},
            event.get("pathParameters") or {},
            event.get("body"),
            bool(event.get("isBase64Encoded")),
        )


@dataclass(frozen=True, slots=True)
class PageQuery:
    status: str | None
    size: int
    after: str
    """The last id of the page before; empty for the first page."""


class Faults:
    """Collects the faults of one request."""

    def __init__(self) -> None:
        self._errors: list[dict[str, str]] = []
        self._statuses: set[int] = set()
        self._headers: dict[str, str] = {}

    def add(self, detail: str, *, status: int = 400, **where: str) -> None:
        self._statuses.add(status)
        if len(self._errors) < MAX_ERRORS:
            self._errors.append({"detail": detail, **where})

    def answer_with(self, name: str, value: str) -> None:
        """A header that the refusal carries."""
        self._headers[name] = value

    def end(self) -> None:
        """Raises InvalidRequest when there was a fault."""
        if self._errors:
            status = next(s for s in _BY_WEIGHT if s in self._statuses)
            raise InvalidRequest(status, self._errors, self._headers)


def read_create(call: Call) -> tuple[Changes, Key | None]:
    """POST: the new to-do and its Idempotency-Key."""
    faults = Faults()
    _no_query(call, faults)
    key = _idempotency_key(call, faults)
    changes = _changes(_json_body(call, faults, (JSON_TYPE,)), faults, whole=True)
    faults.end()
    if key is None:
        return changes, None
    payload = json.dumps(["POST", changes.task, changes.status]).encode()
    return changes, Key(key, hashlib.sha256(payload).hexdigest())


def read_put(call: Call) -> tuple[str, Changes, Condition]:
    """PUT: the id, the whole to-do and its condition."""
    faults = Faults()
    _no_query(call, faults)
    todo_id = _id(call, faults)
    condition = _condition(call, faults)
    changes = _changes(_json_body(call, faults, (JSON_TYPE,)), faults, whole=True)
    faults.end()
    return todo_id, changes, condition


def read_patch(call: Call) -> tuple[str, Changes, Condition]:
    """PATCH: the id, a JSON Merge Patch (RFC 7396) and its condition."""
    faults = Faults()
    _no_query(call, faults)
    todo_id = _id(call, faults)
    condition = _condition(call, faults)
    document = _json_body(call, faults, (PATCH_TYPE, JSON_TYPE))
    changes = _changes(document, faults, whole=False)
    faults.end()
    return todo_id, changes, condition


def read_one(call: Call) -> tuple[str, Condition]:
    """GET and DELETE of one to-do: the id and its condition."""
    faults = Faults()
    _no_query(call, faults)
    todo_id = _id(call, faults)
    condition = _condition(call, faults)
    faults.end()
    return todo_id, condition


def read_nothing(call: Call) -> None:
    """A request that takes no parameter."""
    faults = Faults()
    _no_query(call, faults)
    faults.end()


def read_page(call: Call, tenant: str) -> PageQuery:
    """GET of the list."""
    faults = Faults()
    values = _single_values(call, faults, ("status", "page_size", "page_token"))
    status = values.get("status")
    if status is not None and status not in STATUSES:
        faults.add(f"not one of {', '.join(STATUSES)}", parameter="status")
        status = None
    size = _page_size(values.get("page_size"), faults)
    after = ""
    token = values.get("page_token")
    if token is not None:
        after = _after(token, tenant, status)
        if not after:
            faults.add(
                "not a token of this list; take next_page_token from the page before, with the"
                " same status",
                parameter="page_token",
            )
    faults.end()
    return PageQuery(status, size, after)


def read_fence(call: Call) -> Fence:
    """PUT of the fence: the wanted state."""
    faults = Faults()
    _no_query(call, faults)
    document = _json_body(call, faults, (JSON_TYPE,))
    if document is not None:
        _known_members(document, ("epoch", "active_region", "state"), (), faults)
        _required(document, ("epoch", "active_region", "state"), faults)
        epoch = document.get("epoch", 1)
        if type(epoch) is not int or not 1 <= epoch <= MAX_EPOCH:
            faults.add("not a whole number from 1 on", pointer="#/epoch")
        region = document.get("active_region", "")
        if "active_region" in document and not _matches(_REGION, region):
            faults.add('not a region\'s name such as "us-east-1"', pointer="#/active_region")
        if document.get("state", OPEN) not in (OPEN, DRAINING):
            faults.add(f"not one of {OPEN}, {DRAINING}", pointer="#/state")
    faults.end()
    assert document is not None
    return Fence(document["epoch"], document["active_region"], document["state"])


def page_token(tenant: str, status: str | None, last_id: str) -> str:
    """The opaque token of the page after `last_id`.

    It is bound to the tenant and the filter by a hash, not signed: the rows that a request sees
    come from its access token, so a forged page token reaches nothing else.
    """
    raw = bytes.fromhex(last_id.replace("-", ""))
    return base64.urlsafe_b64encode(raw + _binding(tenant, status, raw)).decode()


def _after(token: str, tenant: str, status: str | None) -> str:
    """The id in a token; empty when it is not one of this list."""
    try:
        raw = base64.b64decode(token.encode("ascii"), altchars=b"-_", validate=True)
    except ValueError:
        return ""
    if len(raw) != 24 or raw[16:] != _binding(tenant, status, raw[:16]):
        return ""
    text = raw[:16].hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _binding(tenant: str, status: str | None, raw: bytes) -> bytes:
    return hashlib.sha256(f"{tenant}\0{status or ''}\0".encode() + raw).digest()[:8]


def _id(call: Call, faults: Faults) -> str:
    text = call.path.get("id", "")
    if not _UUID7.fullmatch(text):
        faults.add("not a UUID of version 7 (RFC 9562)", parameter="id")
    return text.lower()


def _no_query(call: Call, faults: Faults) -> None:
    _single_values(call, faults, ())


def _single_values(call: Call, faults: Faults, known: tuple[str, ...]) -> dict[str, str]:
    for name, values in call.query.items():
        if name not in known:
            faults.add(
                f"unknown; known are {', '.join(known)}" if known else "unknown; none is taken",
                parameter=_short(name),
            )
        elif len(values) != 1:
            faults.add("given more than once", parameter=name)
    return {name: call.query[name][-1] for name in known if call.query.get(name)}


def _page_size(text: str | None, faults: Faults) -> int:
    if text is None:
        return DEFAULT_PAGE
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    if not digits:
        faults.add("not a whole number from 1 on", parameter="page_size")
        return DEFAULT_PAGE
    return MAX_PAGE if len(digits) > 3 else min(int(digits), MAX_PAGE)


def _idempotency_key(call: Call, faults: Faults) -> str | None:
    values = call.headers.get("idempotency-key", [])
    if not values:
        return None
    match = _KEY.fullmatch(values[0].strip()) if len(values) == 1 else None
    if match is None:
        faults.add(
            'give one string of 1 to 128 characters, such as "8e03978e-40d5-43dd"',
            header="Idempotency-Key",
        )
        return None
    return match[1] or match[2]


def _condition(call: Call, faults: Faults) -> Condition:
    return Condition(
        _revisions(call, "If-Match", faults, weak=False),
        _revisions(call, "If-None-Match", faults, weak=True),
    )


def _revisions(call: Call, name: str, faults: Faults, weak: bool) -> frozenset[str] | None:
    """The revisions of a header; weak ones count for If-None-Match only (RFC 9110, 13.1.1)."""
    values = call.headers.get(name.lower())
    if values is None:
        return None
    text = ", ".join(values).strip()
    if text == "*":
        return frozenset("*")
    if not _ETAGS.fullmatch(text):
        faults.add('not a list of ETags such as "0123abcd", nor *', header=name)
        return None
    found = _ETAG.findall(text)
    return frozenset(value for mark, value in found if (weak or not mark) and value != "*")


def _changes(document: dict[str, Any] | None, faults: Faults, whole: bool) -> Changes:
    """The members to set; `whole`: task is needed and status has a default."""
    if document is None:
        return Changes()
    _known_members(document, ("task", "status"), _READ_ONLY, faults)
    if whole:
        _required(document, ("task",), faults)
    if "task" in document:
        _check_task(document["task"], faults)
    if "status" in document and document["status"] not in STATUSES:
        faults.add(f"not one of {', '.join(STATUSES)}", pointer="#/status")
    status = document.get("status", "todo" if whole else None)
    return Changes(document.get("task"), status)


def _check_task(task: Any, faults: Faults) -> None:
    at = "#/task"
    if not isinstance(task, str):
        faults.add("not a string", pointer=at)
        return
    if not 1 <= len(task) <= MAX_TASK:
        faults.add(f"{len(task)} characters; 1 to {MAX_TASK} are allowed", pointer=at)
    if _FORBIDDEN.search(task):
        faults.add("contains control characters other than tab and line ends", pointer=at)
    if not _is_utf8(task):
        faults.add("contains half of a surrogate pair", pointer=at)


def _required(document: dict[str, Any], names: tuple[str, ...], faults: Faults) -> None:
    for name in names:
        if name not in document:
            faults.add("required", pointer=f"#/{name}")


def _known_members(
    document: dict[str, Any], known: tuple[str, ...], read_only: tuple[str, ...], faults: Faults
) -> None:
    for name in document:
        if name in read_only:
            faults.add("set by the service", pointer=f"#/{name}")
        elif name not in known:
            pointer = "#/" + _short(name).replace("~", "~0").replace("/", "~1")
            faults.add(f"unknown; known are {', '.join(known)}", pointer=pointer)


def _json_body(call: Call, faults: Faults, types: tuple[str, ...]) -> dict[str, Any] | None:
    """The body's JSON object, or None after a fault."""
    _check_type(call, faults, types)
    raw = _raw_body(call, faults)
    if raw is None:
        return None
    if len(raw) > MAX_BODY:
        faults.add(f"{len(raw)} bytes; {MAX_BODY} are allowed", status=413, pointer="#")
        return None
    duplicates: list[str] = []
    try:
        document = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=lambda pairs: _members(pairs, duplicates),
            parse_constant=_no_constant,
        )
    except UnicodeDecodeError as error:
        faults.add(f"not UTF-8: byte {error.start}", pointer="#")
        return None
    except RecursionError:
        faults.add("nested too deeply", pointer="#")
        return None
    except ValueError as error:
        faults.add(f"not JSON: {_short(str(error))}", pointer="#")
        return None
    for name in duplicates:
        faults.add(f"member {_short(name)!r} is given twice", pointer="#")
    if not isinstance(document, dict):
        faults.add("not a JSON object", pointer="#")
        return None
    return document


def _check_type(call: Call, faults: Faults, types: tuple[str, ...]) -> None:
    values = call.headers.get("content-type", [])
    given, _, parameters = ",".join(values).partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if given.strip().lower() not in types or charset not in ("", "charset=utf-8"):
        faults.add(f"give {' or '.join(types)}", status=415, header="Content-Type")
        faults.answer_with("Accept", ", ".join(types))


def _raw_body(call: Call, faults: Faults) -> bytes | None:
    try:
        if call.is_base64:
            return base64.b64decode(call.body or "", validate=True)
        return (call.body or "").encode()
    except ValueError:
        faults.add("not UTF-8", pointer="#")
        return None


def _members(pairs: list[tuple[str, Any]], duplicates: list[str]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                duplicates.append(name)
            seen.add(name)
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:100] + "…"
