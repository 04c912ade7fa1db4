"""The decision that a recovery cluster makes about one update: pure functions over frozen values.

`decide` takes the configuration, the state, one transaction and the time, and returns either the
new state or one refusal. It never reads a clock, a file or a socket, so every rule is a table row
in a test.

Where AWS documents nothing, the stricter reading is taken, so that a runbook which works here is
not refused by AWS for that reason: a gate has to be open before *and* after the transaction, and a
write that changes nothing is judged like any other. The downside: something that AWS may accept is
refused here (`docs/semantics/arc.md` lists each such choice).

Sources: AWS pages "Safety rules for routing control" (routing-control.safety-rules), "Overriding
safety rules to reroute traffic" (routing-control.override-safety-rule),
API UpdateRoutingControlStates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

MAX_ENTRIES = 10
"""Routing controls in one UpdateRoutingControlStates call (page routing-control.quotas)."""


class RuleType(StrEnum):
    """How a rule counts the controls that are On."""

    ATLEAST = "ATLEAST"
    AND = "AND"
    OR = "OR"


@dataclass(frozen=True, slots=True)
class RuleConfig:
    """`threshold` is used by ATLEAST only; `inverted` negates the result."""

    type: RuleType
    threshold: int
    inverted: bool

    def holds(self, on: int, total: int) -> bool:
        """Is the rule true when `on` of its `total` controls are On?"""
        match self.type:
            case RuleType.ATLEAST:
                result = on >= self.threshold
            case RuleType.AND:
                result = on == total
            case RuleType.OR:
                result = on >= 1
        return result is not self.inverted


@dataclass(frozen=True, slots=True)
class RoutingControl:
    """One on/off switch."""

    arn: str
    name: str
    panel_arn: str

    @property
    def owner(self) -> str:
        """The account id."""
        return self.arn.split(":")[4]


@dataclass(frozen=True, slots=True)
class SafetyRule:
    """An assertion rule (no gating controls) or a gating rule."""

    arn: str
    name: str
    panel_arn: str
    watched: tuple[str, ...]
    """ARNs of the asserted controls, or of a gating rule's target controls."""
    gating: tuple[str, ...]
    """ARNs of the gating controls; empty for an assertion rule."""
    config: RuleConfig
    wait_period_ms: int


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """Everything that the control plane would have set up."""

    cluster_arn: str
    panels: Mapping[str, str]
    """Control panel ARN -> name."""
    controls: Mapping[str, RoutingControl]
    """By ARN, in the order in which they were made."""
    rules: tuple[SafetyRule, ...]


@dataclass(frozen=True, slots=True)
class ClusterState:
    """The switch positions. A control that was never changed is Off."""

    on: frozenset[str] = frozenset()
    """ARNs of the controls that are On."""
    changed_at: Mapping[str, float] = field(default_factory=dict)
    """Control ARN -> when its last accepted change was, in seconds of the cluster's clock."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One wanted switch position of a transaction."""

    control_arn: str
    is_on: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """The transaction is applied as a whole."""

    state: ClusterState
    changed: tuple[Entry, ...]
    """The entries that really changed something; may be empty."""


@dataclass(frozen=True, slots=True)
class TooManyEntries:
    """More than `MAX_ENTRIES` controls in one transaction."""

    count: int


@dataclass(frozen=True, slots=True)
class InvalidEntries:
    """The transaction contradicts itself."""

    fields: tuple[tuple[str, str], ...]
    """(name of the field, what is wrong with it), every fault."""


@dataclass(frozen=True, slots=True)
class NotFound:
    """A control, or a rule to override, that this cluster does not have."""

    resource_type: str
    resource_id: str


@dataclass(frozen=True, slots=True)
class RuleFailed:
    """A safety rule refuses. Only the first one is named, as AWS does."""

    rule: SafetyRule
    control_arn: str
    """The first entry of the transaction that this rule watches."""
    reason: str
    """What an operator needs to know about the rule."""

    @property
    def message(self) -> str:
        """AWS's documented text, then the rule's ARN and name and the reason, for people."""
        panel, control = _ids(self.control_arn)
        rule_panel, rule_id = _ids(self.rule.arn)
        return (
            f"Cannot modify control state for [{panel} {control}] due to failed rule evaluation "
            f"{rule_panel}{rule_id} ({self.rule.arn}, {self.rule.name}: {self.reason})"
        )


Refusal = TooManyEntries | InvalidEntries | NotFound | RuleFailed


def decide(
    config: ClusterConfig,
    state: ClusterState,
    entries: Sequence[Entry],
    overrides: Collection[str],
    now: float,
) -> Accepted | Refusal:
    """Judge one transaction: all of it is applied, or none of it.

    `overrides` are ARNs of safety rules that are not asked, for this transaction only. `now` is in
    seconds, by the clock that also stamped `state.changed_at`.
    """
    refusal = _malformed(config, entries, overrides)
    if refusal is not None:
        return refusal
    wanted = {entry.control_arn: entry.is_on for entry in entries}
    after = (state.on - wanted.keys()) | {arn for arn, is_on in wanted.items() if is_on}
    for rule in config.rules:
        touched = [arn for arn in wanted if arn in rule.watched]
        if not touched or rule.arn in overrides:
            continue
        reason = _objection(rule, state, after, now)
        if reason is not None:
            return RuleFailed(rule, touched[0], reason)
    changed = tuple(e for e in entries if e.is_on is not (e.control_arn in state.on))
    stamps = {**state.changed_at, **{entry.control_arn: now for entry in changed}}
    return Accepted(ClusterState(frozenset(after), stamps), changed)


def duplicate_faults(arns: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Every repeated control of a batch, as (field name, message). Empty ARNs are passed over."""
    seen: set[str] = set()
    faults = []
    for index, arn in enumerate(arns):
        if arn and arn in seen:
            name = f"UpdateRoutingControlStateEntries.{index}.RoutingControlArn"
            faults.append((name, f"the routing control {arn} is given more than once"))
        seen.add(arn)
    return tuple(faults)


def _malformed(
    config: ClusterConfig, entries: Sequence[Entry], overrides: Collection[str]
) -> TooManyEntries | InvalidEntries | NotFound | None:
    if len(entries) > MAX_ENTRIES:
        return TooManyEntries(len(entries))
    duplicates = duplicate_faults([entry.control_arn for entry in entries])
    if duplicates:
        return InvalidEntries(duplicates)
    for entry in entries:
        if entry.control_arn not in config.controls:
            return NotFound("RoutingControl", entry.control_arn)
    known = {rule.arn for rule in config.rules}
    for arn in overrides:
        if arn not in known:
            return NotFound("SafetyRule", arn)
    return None


def _objection(
    rule: SafetyRule, before: ClusterState, after: Collection[str], now: float
) -> str | None:
    if rule.gating:
        closed = _gate_objection(rule, before, after)
        if closed is not None:
            return closed
    elif not rule.config.holds(_count(rule.watched, after), len(rule.watched)):
        on = _count(rule.watched, after)
        return f"{_words(rule)}, and the request would leave {on} of {len(rule.watched)} On"
    return _waiting(rule, before, now)


def _gate_objection(rule: SafetyRule, before: ClusterState, after: Collection[str]) -> str | None:
    for when, on in (("is", before.on), ("would be", after)):
        count = _count(rule.gating, on)
        if not rule.config.holds(count, len(rule.gating)):
            return (
                f"gating rule, {_words(rule)}, but the gate {when} closed: "
                f"{count} of {len(rule.gating)} gating controls On"
            )
    return None


def _waiting(rule: SafetyRule, before: ClusterState, now: float) -> str | None:
    stamps = [before.changed_at[arn] for arn in rule.watched if arn in before.changed_at]
    if not rule.wait_period_ms or not stamps:
        return None
    left = max(stamps) + rule.wait_period_ms / 1000 - now
    if left <= 0:
        return None
    return f"wait period of {rule.wait_period_ms} ms after the last change, {left:.1f} s left"


def _count(arns: Sequence[str], on: Collection[str]) -> int:
    return sum(arn in on for arn in arns)


def _words(rule: SafetyRule) -> str:
    """For example "must not have at least 2 of 2 On"."""
    config = rule.config
    total = len(rule.gating or rule.watched)
    count = {RuleType.ATLEAST: config.threshold, RuleType.AND: total, RuleType.OR: 1}[config.type]
    return f"must {'not ' if config.inverted else ''}have at least {count} of {total} On"


def _ids(arn: str) -> tuple[str, str]:
    """Control panel id and own id of a routing control's or safety rule's ARN."""
    parts = arn.split(":")[-1].split("/")
    return (parts[1], parts[3]) if len(parts) == 4 else ("", arn)
