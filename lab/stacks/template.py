"""One template with its parameters becomes resources and outputs.

`Prepared` is what depends on the template alone (order of its resources, types): it is made once
and used for every stack of the same template. `Stack.resolve` does the rest, resource by resource
in dependency order, and goes on after a fault, so that all faults come out together.

Downside: a resource behind a fault has no attributes, so faults that only show in what uses it come
out in the next run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from lab.model import Resource
from lab.stacks.catalog import EMULATED, INERT, Declared, Identity, completed, typed
from lab.stacks.intrinsics import BROKEN, Resolver, Scope
from lab.stacks.parameters import resolve_parameters

SECTIONS = frozenset({
    "AWSTemplateFormatVersion", "Conditions", "Description", "Mappings", "Metadata", "Outputs",
    "Parameters", "Resources", "Rules",
})  # fmt: skip
"""Sections of a template that are known here. Rules and Metadata have no effect."""

_VARIABLE = re.compile(r"\$\{([^{}!.]+)[^{}]*\}")


def identify(declared: Declared) -> Identity:
    """Physical id and attributes by the tables of `catalog`."""
    return (EMULATED.get(declared.type) or INERT[declared.type])(declared)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A template and what follows from it alone."""

    document: Mapping[str, Any]
    order: tuple[str, ...]
    """Logical ids, each after those that it depends on."""
    faults: tuple[str, ...] = ()

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Prepared:
        faults = [f"section {s} is not known here" for s in sorted(document.keys() - SECTIONS)]
        resources = document["Resources"]
        graph = {name: _dependencies(body, resources.keys()) for name, body in resources.items()}
        for name, body in resources.items():
            faults.extend(
                f"Resources.{name}.DependsOn: there is no resource {other!r}"
                for other in _depends_on(body)
                if other not in resources
            )
        try:
            order = tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            order = ()
            faults.append(f"resources depend on each other: {' -> '.join(error.args[1])}")
        return cls(document, order, tuple(faults))

    @property
    def types(self) -> Iterator[tuple[str, str]]:
        """Logical id and type of each resource."""
        for name, body in self.document["Resources"].items():
            yield name, str(body.get("Type"))


def _depends_on(body: Mapping[str, Any]) -> list[str]:
    given = body.get("DependsOn", [])
    return [given] if isinstance(given, str) else list(given)


def _dependencies(body: Mapping[str, Any], known: Any) -> list[str]:
    """Logical ids that a resource depends on, in order of appearance."""
    names = dict.fromkeys(_depends_on(body))
    names.update(dict.fromkeys(_references(body.get("Properties", {}))))
    return [name for name in names if name in known]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if len(value) == 1:
            yield from _named_by(*next(iter(value.items())))
        for item in value.values():
            yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _named_by(function: str, argument: Any) -> Iterator[str]:
    if function == "Ref" and isinstance(argument, str):
        yield argument
    elif function == "Fn::GetAtt":
        yield str(argument[0] if isinstance(argument, list) else str(argument).split(".")[0])
    elif function == "Fn::Sub":
        text = argument[0] if isinstance(argument, list) else argument
        yield from (match[1].strip() for match in _VARIABLE.finditer(str(text)))


@dataclass(slots=True)
class StackRun:
    """One stack while it is resolved. Faults go to `faults`, one line each."""

    name: str
    region: str
    prepared: Prepared
    parameters: Mapping[str, str]
    faults: list[str]
    identify: Callable[[Declared], Identity] = identify
    finish: Callable[[Resource], Resource] = field(default=lambda resource: resource)
    """Last word on an emulated resource."""

    def resolve(self) -> tuple[list[Resource], dict[str, str]]:
        """Emulated resources and outputs. What has a fault is left out of both."""
        document = self.prepared.document
        self.faults.extend(f"{self.name}: {fault}" for fault in self.prepared.faults)
        declared = document.get("Parameters", {})
        scope = Scope(
            self.name,
            self.region,
            resolve_parameters(self.name, declared, self.parameters, self.faults),
            document.get("Mappings", {}),
            document.get("Conditions", {}),
        )
        # A parameter without a value has been reported; what refers to it is not reported again.
        scope.broken.update(declared.keys() - scope.parameters.keys())
        resolver = Resolver(scope, self.faults)
        resources = []
        for logical_id in self.prepared.order:
            made = self._resource(logical_id, resolver)
            if made is not None and made.type not in INERT:
                resources.append(made)
        return resources, self._outputs(resolver)

    def _resource(self, logical_id: str, resolver: Resolver) -> Resource | None:
        body, scope = self.prepared.document["Resources"][logical_id], resolver.scope
        path = (logical_id, ("Resources", None))
        if "Condition" in body:
            wanted = resolver.condition(body["Condition"], ("Condition", path))
            if wanted is not True:
                (scope.broken if wanted is BROKEN else scope.absent).add(logical_id)
                return None
        before = len(self.faults)
        given = resolver.resolve(body.get("Properties", {}), ("Properties", path))
        if len(self.faults) > before or not isinstance(given, dict) or _is_broken(given):
            scope.broken.add(logical_id)
            return None
        kind = body["Type"]
        properties = completed(kind, typed(given))
        declared = Declared(self.name, self.region, logical_id, kind, properties)
        physical_id, attributes = self.identify(declared)
        scope.references[logical_id] = (physical_id, attributes)
        return self.finish(
            Resource(self.name, self.region, logical_id, kind, physical_id, properties, attributes)
        )

    def _outputs(self, resolver: Resolver) -> dict[str, str]:
        outputs = {}
        for name, body in self.prepared.document.get("Outputs", {}).items():
            path = (name, ("Outputs", None))
            if "Condition" in body and resolver.condition(body["Condition"], path) is not True:
                continue
            value = resolver.resolve(body.get("Value"), ("Value", path))
            if isinstance(value, str):
                outputs[name] = value
            elif value is not BROKEN:
                self.faults.append(f"{self.name}: Outputs.{name}.Value: {value!r} is not a string")
        return outputs


def _is_broken(value: Any) -> bool:
    """Whether a fault that was reported elsewhere hides somewhere in `value`."""
    if isinstance(value, dict):
        return any(_is_broken(item) for item in value.values())
    if isinstance(value, list):
        return any(_is_broken(item) for item in value)
    return value is BROKEN
