"""What a step is: a CloudFormation stack or a Chalice deployment, and what it takes from others.

A step names what it needs from other steps by `OutputRef`, so the order of a list of steps is not a
convention but follows from `needs`. `parameters_of` puts outputs in.

Downside: an output is a string and has to exist when its step is done; what AWS tells only later
(the endpoints of an ARC cluster) cannot be wired this way.

Errors: `WiringError`, alone in its tree, when outputs that a step needs are not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


class WiringError(Exception):
    """Outputs that a step needs are missing. `missing` lists them as `stack.output`."""

    def __init__(self, step: str, missing: tuple[str, ...]) -> None:
        self.missing = missing
        super().__init__(f"{step} needs outputs that no step gave: {', '.join(missing)}")


@dataclass(frozen=True, slots=True)
class OutputRef:
    """The output of another step."""

    stack: str
    """Name of the step."""
    output: str


@dataclass(frozen=True, slots=True)
class Text:
    """Literals and outputs put together with nothing between them."""

    parts: tuple[str | OutputRef, ...]


Value = str | OutputRef | Text | tuple[str | OutputRef, ...]
"""A parameter: a literal, an output, a text made of those, or a list of them (sent as
CommaDelimitedList)."""


@dataclass(frozen=True, slots=True)
class Stack:
    """One CloudFormation stack."""

    name: str
    region: str
    template: str
    """File name below `infra/templates`."""
    parameters: Mapping[str, Value] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    """Steps that must be done before although none of their outputs is used."""

    @property
    def values(self) -> Mapping[str, Value]:
        return self.parameters

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the steps that must be done before this one, each once, sorted."""
        return _needs(self.parameters, self.after)


@dataclass(frozen=True, slots=True)
class Application:
    """One `chalice deploy --stage <region>` of one service in one region.

    Its outputs are those of the template that `chalice package` writes, `RestAPIId` among them.
    """

    name: str
    service: str
    folder: str
    """Folder below `services/` with the code; services may share one."""
    region: str
    """Also the name of the Chalice stage."""
    environment: Mapping[str, Value] = field(default_factory=dict)
    """Environment variables of all its functions."""
    after: tuple[str, ...] = ()
    network: Mapping[str, Value] = field(default_factory=dict)
    """Where in a VPC its functions are: `subnet_ids` and `security_group_ids`, each a list joined
    by commas; empty outside a VPC."""
    access_log: str | OutputRef = ""
    """ARN of the log group for the access log of its REST API; empty without one."""

    @property
    def values(self) -> Mapping[str, Value]:
        return self.environment

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the steps that must be done before this one, each once, sorted."""
        values = {**self.network, **self.environment, "access log": self.access_log}
        return _needs(values, self.after)


Step = Stack | Application


def _needs(values: Mapping[str, Value], after: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted({ref.stack for v in values.values() for ref in _refs(v)} | set(after)))


def _refs(value: Value) -> Iterator[OutputRef]:
    items = value.parts if isinstance(value, Text) else value
    for item in items if isinstance(items, tuple) else (items,):
        if isinstance(item, OutputRef):
            yield item


Outputs = Mapping[str, Mapping[str, str]]
"""Step name -> output name -> value."""


def parameters_of(step: Step, outputs: Outputs) -> dict[str, str]:
    """The values that `step` takes (a stack's parameters, an application's environment), each a
    string as CloudFormation and Lambda want it; a list is joined by commas.

    `outputs`: those of the steps done so far. Raises WiringError with every output that is missing.
    """
    return _resolved(step.name, step.values, outputs)


def network_of(step: Application, outputs: Outputs) -> dict[str, list[str]]:
    """`subnet_ids` and `security_group_ids` of an application in a VPC, else nothing. Arguments
    and errors as for `parameters_of`."""
    found = _resolved(step.name, step.network, outputs)
    return {name: value.split(",") for name, value in found.items()}


def access_log_of(step: Application, outputs: Outputs) -> str:
    """ARN of the log group of an application. Arguments and errors as for `parameters_of`."""
    return _resolved(step.name, {"access log": step.access_log}, outputs)["access log"]


def _resolved(name: str, values: Mapping[str, Value], outputs: Outputs) -> dict[str, str]:
    missing = tuple(
        f"{ref.stack}.{ref.output}"
        for value in values.values()
        for ref in _refs(value)
        if ref.output not in outputs.get(ref.stack, {})
    )
    if missing:
        raise WiringError(name, missing)

    def text(item: str | OutputRef) -> str:
        return outputs[item.stack][item.output] if isinstance(item, OutputRef) else item

    def whole(value: Value) -> str:
        if isinstance(value, Text):
            return "".join(map(text, value.parts))
        return ",".join(map(text, value)) if isinstance(value, tuple) else text(value)

    return {key: whole(value) for key, value in values.items()}
