"""The AWS Query protocol: flat parameters in, XML out in which lists name their members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from lab.aurora.errors import ApiError

NAMESPACE = "http://rds.amazonaws.com/doc/2014-10-31/"


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one call."""

    values: Mapping[str, str]

    def get(self, name: str) -> str:
        return self.values.get(name, "")

    def required(self, name: str) -> str:
        value = self.get(name)
        if not value:
            raise ApiError("MissingParameter", f"The request must contain the parameter {name}")
        return value

    def flag(self, name: str) -> bool:
        value = self.get(name).lower()
        if value not in ("", "true", "false"):
            raise ApiError("InvalidParameterValue", f"{name} must be true or false")
        return value == "true"

    def filtered(self, name: str) -> set[str]:
        """The values of the filter of that name; a set of nothing if it is absent."""
        for key, value in self.values.items():
            if key.endswith(".Name") and value == name:
                prefix = key.removesuffix("Name") + "Values."
                return {v for k, v in self.values.items() if k.startswith(prefix)}
        return set()


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
