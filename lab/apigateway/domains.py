"""Which API, stage and base path a host name and a path stand for. Pure.

Source: AWS docs "Custom domain name for public REST APIs", "Map API stages to a custom domain
name", "Disable the default endpoint for REST APIs".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lab.apigateway.definition import Api
from lab.apigateway.responses import FORBIDDEN, MISSING_TOKEN, Refused


@dataclass(frozen=True, slots=True)
class Stage:
    """One deployed stage of an API."""

    api: Api
    name: str
    variables: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: the stage and the path within its API."""

    stage: Stage
    path: str
    """Raw, still encoded; begins with a slash."""
    base: str
    """What came before it: a base path or, on the default endpoint, the stage. "" or "/…"."""
    is_custom: bool


class CustomDomain:
    """A custom domain name and its base path mappings; the longest base path wins."""

    def __init__(self, name: str, mappings: Mapping[str, Stage]) -> None:
        self.name = name
        self._mappings = sorted(
            (("/" + base if base else "", stage) for base, stage in mappings.items()),
            key=lambda mapping: -len(mapping[0]),
        )

    def target(self, path: str) -> Target:
        for base, stage in self._mappings:
            if not base or path == base or path.startswith(base + "/"):
                return Target(stage, path[len(base) :] or "/", base, is_custom=True)
        raise Refused(FORBIDDEN, f"no base path mapping of {self.name} fits {path}")


class DefaultEndpoint:
    """`<api id>.execute-api.<region>.amazonaws.com`; the path begins with the stage."""

    def __init__(self, api: Api, stages: Mapping[str, Stage]) -> None:
        self._api = api
        self._stages = stages

    def target(self, path: str) -> Target:
        if not self._api.execute_api_enabled:
            raise Refused(FORBIDDEN, f"the default endpoint of {self._api.id} is disabled")
        name, slash, rest = path[1:].partition("/")
        if not name:
            raise Refused(MISSING_TOKEN, "the path names no stage")
        stage = self._stages.get(name)
        if stage is None:
            raise Refused(FORBIDDEN, f"{self._api.id} has no stage {name}")
        return Target(stage, slash + rest or "/", "/" + name, is_custom=False)


class Hosts:
    """All host names that a region's gateway answers to."""

    def __init__(self, hosts: Mapping[str, CustomDomain | DefaultEndpoint]) -> None:
        self._hosts = hosts

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._hosts)

    def target(self, host: str, path: str) -> Target:
        """`host` in lower case, without port. Raises Refused: 403 for an unknown one."""
        found = self._hosts.get(host)
        if found is None:
            raise Refused(FORBIDDEN, f"no domain name {host!r} in this region")
        return found.target(path)
