"""Answers of the AWS Query protocol: XML in which lists name their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"


@dataclass(frozen=True, slots=True)
class Members:
    """A list, with the name of each element."""

    name: str
    items: Sequence[Any]


def result(action: str, members: Mapping[str, Any], request_id: str) -> str:
    return (
        f'<{action}Response xmlns="{NAMESPACE}"><{action}Result>{_content(members)}'
        f"</{action}Result><ResponseMetadata><RequestId>{request_id}</RequestId>"
        f"</ResponseMetadata></{action}Response>"
    )


def error(code: str, message: str, status: int, request_id: str) -> str:
    kind = "Sender" if status < 500 else "Receiver"
    return (
        f'<ErrorResponse xmlns="{NAMESPACE}"><Error><Type>{kind}</Type>'
        f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
        f"<RequestId>{request_id}</RequestId></ErrorResponse>"
    )


def _content(value: Any) -> str:
    """Members that are None are left out."""
    if isinstance(value, Members):
        return "".join(f"<{value.name}>{_content(i)}</{value.name}>" for i in value.items)
    if isinstance(value, Mapping):
        return "".join(
            f"<{name}>{_content(item)}</{name}>"
            for name, item in value.items()
            if item is not None
        )
    if isinstance(value, bool):
        return "true" if value else "false"
    return escape(str(value))
