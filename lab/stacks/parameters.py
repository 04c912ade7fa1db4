"""Parameters of a template, checked as CloudFormation checks them before it creates anything.

Source: "Parameters" page of the CloudFormation user guide. A value is a string; a list type gives
a list. Types that AWS checks against an account (`AWS::Route53::HostedZone::Id`, …) are strings
here; whether the thing exists is asked of the resolved resources. Parameters that are looked up in
SSM are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def resolve_parameters(
    stack: str, declared: Mapping[str, Any], given: Mapping[str, str], faults: list[str]
) -> dict[str, Any]:
    """What `Ref` gives for each declared parameter. Faults are appended, one line each."""
    faults.extend(
        f"{stack}: parameter {name} is not declared by the template"
        for name in sorted(given.keys() - declared.keys())
    )
    values: dict[str, Any] = {}
    for name, declaration in declared.items():
        if name in given:
            value = given[name]
        elif "Default" in declaration:
            value = str(declaration["Default"])
        else:
            faults.append(f"{stack}: parameter {name} has neither a value nor a default")
            continue
        values[name] = _value(f"{stack}: parameter {name}", declaration, value, faults)
    return values


def _value(at: str, declaration: Mapping[str, Any], value: str, faults: list[str]) -> Any:
    kind = str(declaration.get("Type", ""))
    if kind.startswith("AWS::SSM::"):
        faults.append(f"{at}: type {kind} needs a look-up in SSM, which the lab does not have")
        return value
    if kind == "CommaDelimitedList" or kind.startswith("List<"):
        items = [item.strip() for item in value.split(",")] if value else []
        for item in items:
            _check(at, declaration, item, numeric=kind == "List<Number>", faults=faults)
        return items
    _check(at, declaration, value, numeric=kind == "Number", faults=faults)
    return value


def _check(
    at: str, declaration: Mapping[str, Any], value: str, *, numeric: bool, faults: list[str]
) -> None:
    hint = declaration.get("ConstraintDescription", "")
    end = f" ({hint})" if hint else ""
    faults.extend(f"{at}: {value!r} {reason}{end}" for reason in _reasons(declaration, value))
    if numeric:
        faults.extend(f"{at}: {value!r} {reason}{end}" for reason in _range(declaration, value))


def _reasons(declaration: Mapping[str, Any], value: str) -> list[str]:
    reasons = []
    allowed = [str(item) for item in declaration.get("AllowedValues", [])]
    if allowed and value not in allowed:
        reasons.append(f"is none of {', '.join(allowed)}")
    pattern = declaration.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, value):
        reasons.append(f"does not match {pattern}")
    if len(value) < int(declaration.get("MinLength", 0)):
        reasons.append(f"is shorter than {declaration['MinLength']}")
    if len(value) > int(declaration.get("MaxLength", len(value))):
        reasons.append(f"is longer than {declaration['MaxLength']}")
    return reasons


def _range(declaration: Mapping[str, Any], value: str) -> list[str]:
    try:
        number = float(value)
    except ValueError:
        return ["is not a number"]
    reasons = []
    if number < float(declaration.get("MinValue", number)):
        reasons.append(f"is below {declaration['MinValue']}")
    if number > float(declaration.get("MaxValue", number)):
        reasons.append(f"is above {declaration['MaxValue']}")
    return reasons
