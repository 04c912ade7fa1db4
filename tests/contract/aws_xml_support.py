"""Values as XML and back, by botocore's shapes: answers of the protocols `query` and `rest-xml`,
requests of `rest-xml`.

Downside: attributes and namespaces are left out; botocore's parser needs neither for the answers
that are given here.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from botocore.model import Shape


def to_xml(shape: Shape, value: Any) -> str:
    """The content of the element that stands for `value`."""
    if shape.type_name == "structure":
        return "".join(_member(shape.members[name], name, item) for name, item in value.items())
    if shape.type_name == "list":
        return "".join(_item(shape, item) for item in value)
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return escape(str(value).lower() if isinstance(value, bool) else str(value))


def _member(shape: Shape, name: str, value: Any) -> str:
    said = shape.serialization.get("name", name)
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        return "".join(f"<{said}>{to_xml(shape.member, item)}</{said}>" for item in value)
    return f"<{said}>{to_xml(shape, value)}</{said}>"


def _item(shape: Shape, value: Any) -> str:
    said = shape.member.serialization.get("name", "member")
    return f"<{said}>{to_xml(shape.member, value)}</{said}>"


def members_from_xml(shape: Shape, body: bytes) -> dict[str, Any]:
    """The members of a structure whose XML is `body`. Raises ValueError for what is not in it."""
    found: dict[str, Any] = _from_xml(shape, ElementTree.fromstring(body))
    return found


def _from_xml(shape: Shape, element: ElementTree.Element) -> Any:
    if shape.type_name == "structure":
        names = {m.serialization.get("name", n): n for n, m in shape.members.items()}
        found = {}
        for child in element:
            if _local(child) not in names:
                raise ValueError(f"{shape.name} does not know {_local(child)}")
            name = names[_local(child)]
            found[name] = _from_xml(shape.members[name], child)
        return found
    if shape.type_name == "list":
        return [_from_xml(shape.member, child) for child in _items(shape, element)]
    text = element.text or ""
    if shape.type_name in ("integer", "long"):
        return int(text)
    return text == "true" if shape.type_name == "boolean" else text


def _items(shape: Shape, element: ElementTree.Element) -> Iterator[ElementTree.Element]:
    said = shape.member.serialization.get("name", "member")
    for child in element:
        if _local(child) != said:
            raise ValueError(f"{shape.name} has {_local(child)} where {said} belongs")
        yield child


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
