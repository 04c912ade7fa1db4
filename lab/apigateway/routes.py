"""Which resource a path belongs to: literal before `{name}` before `{name+}`. Pure.

Source: AWS docs "Set up a proxy integration with a proxy resource". That a less specific resource
is tried when a more specific one leads nowhere is assumed; so is that a final slash is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from urllib.parse import unquote

ANY = "ANY"
_M = TypeVar("_M")


@dataclass(frozen=True, slots=True)
class Resource(Generic[_M]):
    """A path of the definition and its methods by name, `ANY` for all others."""

    path: str
    methods: Mapping[str, _M]

    def method(self, name: str) -> _M | None:
        return self.methods.get(name) or self.methods.get(ANY)


@dataclass(slots=True)
class _Node(Generic[_M]):
    literals: dict[str, _Node[_M]] = field(default_factory=dict)
    parameter: _Node[_M] | None = None
    greedy: Resource[_M] | None = None
    resource: Resource[_M] | None = None


class Router(Generic[_M]):
    """Finds the resource of a path in time proportional to its length."""

    def __init__(self, resources: tuple[Resource[_M], ...]) -> None:
        self.resources = resources
        self._root: _Node[_M] = _Node()
        self._exact: dict[str, Resource[_M]] = {}
        for resource in resources:
            self._add(resource)

    def match(self, path: str) -> tuple[Resource[_M], dict[str, str]] | None:
        """The resource of a raw (still encoded) path and its parameters, decoded; or None."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact, {}
        segments = path.strip("/").split("/") if path.strip("/") else []
        raw: list[str] = []
        resource = _descend(self._root, segments, 0, raw)
        if resource is None:
            return None
        names = [s[1:-1].rstrip("+") for s in resource.path.split("/") if s.startswith("{")]
        return resource, {n: _decode(v) for n, v in zip(names, raw, strict=True)}

    def _add(self, resource: Resource[_M]) -> None:
        node = self._root
        segments = [s for s in resource.path.split("/") if s]
        if not any(s.startswith("{") for s in segments):
            self._exact[resource.path] = resource
        for segment in segments:
            if segment.endswith("+}"):
                node.greedy = resource
                return
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        node.resource = resource


def _descend(
    node: _Node[_M], segments: list[str], depth: int, found: list[str]
) -> Resource[_M] | None:
    if depth == len(segments):
        return node.resource
    segment = segments[depth]
    literal = node.literals.get(_decode(segment))
    if literal is not None:
        resource = _descend(literal, segments, depth + 1, found)
        if resource is not None:
            return resource
    if node.parameter is not None and segment:
        found.append(segment)
        resource = _descend(node.parameter, segments, depth + 1, found)
        if resource is not None:
            return resource
        found.pop()
    if node.greedy is not None:
        found.append("/".join(segments[depth:]))
    return node.greedy


def _decode(segment: str) -> str:
    return unquote(segment) if "%" in segment else segment
