"""IAM policies as data: their grammar, and whether they allow an action on a resource.

Downside: of the conditions only `StringEquals`, `StringLike`, `Bool` and `BoolIfExists` are
understood, and no boundaries, session or resource policies. A condition of another kind is an error
here, so a policy that uses one cannot pass unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

_KEYS = {"Sid", "Effect", "Action", "Resource", "Condition"}
_ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9*]+")
_RESOURCE = re.compile(r"\*|arn:aws:[a-z0-9-]+:[a-z0-9*-]*:(\d{12}|aws|\*)?:\S+")


def listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def policy_faults(document: Any) -> Iterator[str]:
    """What the grammar of identity policies forbids (IAM user guide, "Grammar of the IAM JSON
    policy language"), of the part that is used here."""
    if not isinstance(document, dict) or document.keys() != {"Version", "Statement"}:
        yield "a policy is an object with Version and Statement"
        return
    if document["Version"] != "2012-10-17":
        yield f"Version {document['Version']!r}"
    sids = [s.get("Sid") for s in document["Statement"] if s.get("Sid")]
    if len(set(sids)) != len(sids):
        yield "a Sid is used twice"
    for number, statement in enumerate(document["Statement"]):
        at = statement.get("Sid", f"statement {number}")
        yield from (f"{at}: {fault}" for fault in _statement_faults(statement))


def _statement_faults(statement: Mapping[str, Any]) -> Iterator[str]:
    if unknown := sorted(statement.keys() - _KEYS):
        yield f"unknown keys {unknown}"
    if missing := sorted({"Effect", "Action", "Resource"} - statement.keys()):
        yield f"missing keys {missing}"
        return
    if statement["Effect"] not in ("Allow", "Deny"):
        yield f"Effect {statement['Effect']!r}"
    if not re.fullmatch("[A-Za-z0-9]*", statement.get("Sid", "")):
        yield "a Sid has letters and digits only"
    actions, resources = listed(statement["Action"]), listed(statement["Resource"])
    yield from (f"action {a!r}" for a in actions if not _ACTION.fullmatch(a))
    yield from (f"resource {r!r}" for r in resources if not _RESOURCE.fullmatch(r))
    for operator, keys in statement.get("Condition", {}).items():
        if operator not in _OPERATORS or not isinstance(keys, dict):
            yield f"condition {operator!r}"


def allows(
    policy: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str] | None = None
) -> bool:
    """Whether some statement allows it and none denies it. `context`: condition key -> value."""
    effects = {
        s["Effect"] for s in policy["Statement"] if _applies(s, action, resource, context or {})
    }
    return effects == {"Allow"}


def used(
    statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]
) -> tuple[str, str] | None:
    """The action and the resource pattern of the statement that match, or None."""
    if not _applies(statement, action, resource, context):
        return None
    actions = [a for a in listed(statement["Action"]) if fnmatchcase(action.lower(), a.lower())]
    resources = [r for r in listed(statement["Resource"]) if _like(resource, r)]
    return actions[0], resources[0]


def _applies(
    statement: Mapping[str, Any], action: str, resource: str, context: Mapping[str, str]
) -> bool:
    return (
        any(fnmatchcase(action.lower(), a.lower()) for a in listed(statement["Action"]))
        and any(_like(resource, r) for r in listed(statement["Resource"]))
        and all(
            _OPERATORS[operator](context.get(key), listed(values))
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _like(text: str, pattern: str) -> bool:
    regex = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(regex, text) is not None


_OPERATORS = {
    "StringEquals": lambda value, given: value in given,
    "StringLike": lambda value, given: value is not None and any(_like(value, g) for g in given),
    "Bool": lambda value, given: value in given,
    "BoolIfExists": lambda value, given: value is None or value in given,
}
