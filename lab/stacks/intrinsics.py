"""CloudFormation's intrinsic functions over plain data.

`Resolver.resolve` replaces every function in a value by its result. A fault is written to `faults`
with its path, and a poison value takes its place, so that one pass finds all faults and none of
them is reported twice by what is built on it.

Known functions: Ref, GetAtt, Sub (both forms), Join, Select, Split, If, FindInMap, and in
conditions Equals, And, Or, Not, Condition. ImportValue is refused because stacks are wired by
outputs and parameters. Rules are those of the "Intrinsic function reference" and "Pseudo parameters
reference" pages of the CloudFormation user guide.

Downside: macros, dynamic references and the language extensions transform are not known; a template
that uses them is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

ACCOUNT_ID = "111122223333"
PARTITION = "aws"


class _Marker:
    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NO_VALUE: Final = _Marker("AWS::NoValue")
"""The property is left out."""
BROKEN: Final = _Marker("broken")
"""Stands for a value whose fault has been reported."""

Path = tuple[Any, ...] | None
"""Where a value stands, innermost first: (key, path of the parent) or None at the top."""

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")


def render_path(path: Path) -> str:
    """`Resources.Record.Properties.Name` from the nested form."""
    keys: list[str] = []
    while path is not None:
        keys.append(str(path[0]))
        path = path[1]
    return ".".join(reversed(keys))


@dataclass(slots=True)
class Scope:
    """What the functions of one stack may refer to."""

    stack: str
    region: str
    parameters: Mapping[str, Any]
    mappings: Mapping[str, Any]
    conditions: Mapping[str, Any]
    """The Conditions section, unresolved."""
    references: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)
    """Logical id of each resource made so far -> (what Ref gives, attributes for GetAtt)."""
    absent: set[str] = field(default_factory=set)
    """Logical ids of resources whose condition is false."""
    broken: set[str] = field(default_factory=set)
    """Logical ids of resources with a fault."""

    def pseudo(self, name: str) -> Any:
        """A pseudo parameter, or BROKEN when there is none of that name."""
        return {
            "AWS::AccountId": ACCOUNT_ID,
            "AWS::NoValue": NO_VALUE,
            "AWS::NotificationARNs": [],
            "AWS::Partition": PARTITION,
            "AWS::Region": self.region,
            "AWS::StackId": f"arn:{PARTITION}:cloudformation:{self.region}:{ACCOUNT_ID}"
            f":stack/{self.stack}/lab",
            "AWS::StackName": self.stack,
            "AWS::URLSuffix": "amazonaws.com",
        }.get(name, BROKEN)


class Resolver:
    """Resolves values of one stack. `faults` grows by one line for each fault."""

    def __init__(self, scope: Scope, faults: list[str]) -> None:
        self.scope = scope
        self.faults = faults
        self._conditions: dict[str, bool | _Marker] = {}
        self._evaluating: list[str] = []
        self._functions: dict[str, Callable[[Any, Path], Any]] = {
            "Ref": self._ref,
            "Fn::GetAtt": self._get_att,
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Select": self._select,
            "Fn::Split": self._split,
            "Fn::If": self._if,
            "Fn::FindInMap": self._find_in_map,
        }
        self._tests: dict[str, Callable[[Any, Path], bool | _Marker]] = {
            "Condition": self._named,
            "Fn::Equals": self._equals,
            "Fn::And": lambda value, path: self._all(value, path, all),
            "Fn::Or": lambda value, path: self._all(value, path, any),
            "Fn::Not": self._not,
        }

    def resolve(self, value: Any, path: Path = None) -> Any:
        """`value` without functions. Members that come to AWS::NoValue are left out."""
        if isinstance(value, dict):
            if len(value) == 1:
                name = next(iter(value))
                function = self._functions.get(name)
                if function is not None:
                    return function(value[name], (name, path))
            return self._mapping(value, path)
        if isinstance(value, list):
            items = [self.resolve(item, (index, path)) for index, item in enumerate(value)]
            return [item for item in items if item is not NO_VALUE]
        return value

    def condition(self, name: str, path: Path = None) -> bool | _Marker:
        """Whether the condition `name` holds; BROKEN after a fault."""
        if name in self._conditions:
            return self._conditions[name]
        if name not in self.scope.conditions:
            return self._fault(path, f"there is no condition {name!r}")
        if name in self._evaluating:
            circle = " -> ".join([*self._evaluating, name])
            return self._fault(path, f"conditions refer to each other: {circle}")
        self._evaluating.append(name)
        result = self._test(self.scope.conditions[name], (name, ("Conditions", None)))
        self._evaluating.pop()
        self._conditions[name] = result
        return result

    def _fault(self, path: Path, message: str) -> _Marker:
        self.faults.append(f"{self.scope.stack}: {render_path(path)}: {message}")
        return BROKEN

    def _mapping(self, value: Mapping[str, Any], path: Path) -> Any:
        result = {}
        for key, item in value.items():
            if isinstance(key, str) and key.startswith("Fn::"):
                return self._unknown(key, len(value), path)
            resolved = self.resolve(item, (key, path))
            if resolved is not NO_VALUE:
                result[key] = resolved
        return result

    def _unknown(self, name: str, members: int, path: Path) -> _Marker:
        if name == "Fn::ImportValue":
            return self._fault(path, "Fn::ImportValue is refused; pass an output as a parameter")
        if name in self._functions:
            return self._fault(path, f"{name} stands beside {members - 1} other keys")
        return self._fault(path, f"{name} is not known here")

    # -- values ------------------------------------------------------------------------------

    def _ref(self, name: Any, path: Path) -> Any:
        scope = self.scope
        if not isinstance(name, str):
            return self._fault(path, f"Ref takes a name, not {name!r}")
        if name in scope.references:
            return scope.references[name][0]
        if name in scope.parameters:
            return scope.parameters[name]
        pseudo = scope.pseudo(name)
        return self._missing(name, path) if pseudo is BROKEN else pseudo

    def _missing(self, name: str, path: Path) -> _Marker:
        if name in self.scope.broken:
            return BROKEN
        if name in self.scope.absent:
            return self._fault(path, f"{name} is not created, its condition is false")
        return self._fault(path, f"there is no parameter or resource {name!r}")

    def _get_att(self, value: Any, path: Path) -> Any:
        parts = value.split(".", 1) if isinstance(value, str) else value
        if not isinstance(parts, list) or len(parts) != 2 or not isinstance(parts[0], str):
            return self._fault(path, f"takes a logical id and an attribute, not {value!r}")
        attribute = self.resolve(parts[1], path)
        if attribute is BROKEN:
            return BROKEN
        return self._attribute(parts[0], str(attribute), path)

    def _attribute(self, name: str, attribute: str, path: Path) -> Any:
        if name not in self.scope.references:
            if name in self.scope.parameters:
                return self._fault(path, f"{name} is a parameter and has no attributes")
            return self._missing(name, path)
        attributes = self.scope.references[name][1]
        if attribute in attributes:
            return attributes[attribute]
        known = ", ".join(sorted(attributes)) or "none"
        return self._fault(path, f"{name} has no attribute {attribute!r}; known are {known}")

    def _sub(self, value: Any, path: Path) -> Any:
        text, given = value if isinstance(value, list) and len(value) == 2 else (value, {})
        if not isinstance(text, str) or not isinstance(given, dict):
            return self._fault(path, "takes a string, or a list of a string and a mapping")
        own = {key: self.resolve(item, (key, path)) for key, item in given.items()}
        pieces: list[str | _Marker] = []
        end = 0
        for match in _VARIABLE.finditer(text):
            pieces.append(text[end : match.start()])
            pieces.append(self._variable(match[1], own, path))
            end = match.end()
        pieces.append(text[end:])
        return BROKEN if BROKEN in pieces else "".join(map(str, pieces))

    def _variable(self, name: str, own: Mapping[str, Any], path: Path) -> str | _Marker:
        if name.startswith("!"):
            return f"${{{name[1:]}}}"
        name = name.strip()
        if name in own:
            return self._text(own[name], path)
        if "." in name:
            logical_id, attribute = name.split(".", 1)
            return self._text(self._attribute(logical_id, attribute, path), path)
        return self._text(self._ref(name, path), path)

    def _text(self, value: Any, path: Path) -> str | _Marker:
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
        if isinstance(value, _Marker):
            return value if value is BROKEN else self._fault(path, "there is no value")
        return self._fault(path, f"{value!r} is not a string")

    def _join(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[0], str):
            return self._fault(path, "takes a list of a delimiter and a list")
        items = self._list(value[1], path)
        if not isinstance(items, list):
            return BROKEN
        texts = [self._text(item, path) for item in items]
        return BROKEN if BROKEN in texts else value[0].join(map(str, texts))

    def _list(self, value: Any, path: Path) -> list[Any] | _Marker:
        items = self.resolve(value, path)
        if isinstance(items, list):
            return items
        return BROKEN if items is BROKEN else self._fault(path, f"{items!r} is not a list")

    def _select(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or len(value) != 2:
            return self._fault(path, "takes a list of an index and a list")
        index, items = self.resolve(value[0], path), self._list(value[1], path)
        if index is BROKEN or not isinstance(items, list):
            return BROKEN
        if not str(index).isdecimal() or int(index) >= len(items):
            return self._fault(path, f"there is no element {index!r} in a list of {len(items)}")
        return items[int(index)]

    def _split(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or len(value) != 2 or not value[0]:
            return self._fault(path, "takes a list of a delimiter and a string")
        text = self._text(self.resolve(value[1], path), path)
        return text.split(str(value[0])) if isinstance(text, str) else BROKEN

    def _if(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or len(value) != 3:
            return self._fault(path, "takes a list of a condition and two values")
        holds = self.condition(value[0], path)
        if holds is BROKEN:
            return BROKEN
        chosen = 1 if holds else 2
        return self.resolve(value[chosen], (chosen, path))

    def _find_in_map(self, value: Any, path: Path) -> Any:
        if not isinstance(value, list) or len(value) != 3:
            return self._fault(path, "takes a map and two keys")
        found: Any = self.scope.mappings
        for part in value:
            key = self.resolve(part, path)
            if key is BROKEN:
                return BROKEN
            if not isinstance(found, dict) or key not in found:
                return self._fault(path, f"there is no {key!r} in the mappings")
            found = found[key]
        return found

    # -- conditions --------------------------------------------------------------------------

    def _test(self, value: Any, path: Path) -> bool | _Marker:
        if isinstance(value, dict) and len(value) == 1:
            name = next(iter(value))
            test = self._tests.get(name)
            if test is not None:
                return test(value[name], (name, path))
        return self._fault(path, f"{value!r} is not a condition")

    def _named(self, name: Any, path: Path) -> bool | _Marker:
        return self.condition(str(name), path)

    def _equals(self, value: Any, path: Path) -> bool | _Marker:
        if not isinstance(value, list) or len(value) != 2:
            return self._fault(path, "takes two values")
        left, right = (self._text(self.resolve(item, path), path) for item in value)
        return BROKEN if left is BROKEN or right is BROKEN else left == right

    def _all(
        self, value: Any, path: Path, combine: Callable[[Sequence[Any]], bool]
    ) -> bool | _Marker:
        if not isinstance(value, list) or not 2 <= len(value) <= 10:
            return self._fault(path, "takes two to ten conditions")
        results = [self._test(item, (index, path)) for index, item in enumerate(value)]
        return BROKEN if BROKEN in results else combine(results)

    def _not(self, value: Any, path: Path) -> bool | _Marker:
        if not isinstance(value, list) or len(value) != 1:
            return self._fault(path, "takes one condition")
        result = self._test(value[0], path)
        return BROKEN if result is BROKEN else not result
