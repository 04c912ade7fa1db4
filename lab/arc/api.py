"""The cluster without sockets: five endpoints' answers to requests, from one state.

`ArcApi.answer` is a plain function of (endpoint, request, time): checks in AWS's order (operation,
signature, quota, fields, quorum, then the transaction itself), decided by `rules`, made durable by
`store`, shown by `replicas`.

Downside: everything runs in the caller's thread, one request after the other, so this says nothing
about AWS's own latency.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from lab.arc import wire
from lab.arc.errors import ArcStateError
from lab.arc.replicas import MutationLimit, Replicas
from lab.arc.rules import (
    MAX_ENTRIES,
    Accepted,
    ClusterConfig,
    ClusterState,
    Entry,
    InvalidEntries,
    NotFound,
    Refusal,
    RoutingControl,
    RuleFailed,
    TooManyEntries,
    decide,
)
from lab.arc.wire import Answer, ApiError

QUORUM = 3
"""Endpoints of five that have to be reachable for a write."""
PAGE_SIZE = 500

Event = dict[str, Any]


class Fault(StrEnum):
    """How one endpoint misbehaves."""

    NONE = "none"
    REFUSE = "refuse"
    """Nothing listens: connections are refused."""
    HANG = "hang"
    """Connections are accepted, nothing is ever answered, nothing is done."""
    LOSE_ANSWER = "lose_answer"
    """Requests are carried out, but their answers never arrive."""
    UNAVAILABLE = "unavailable"
    """EndpointTemporarilyUnavailableException, as in AWS's regular maintenance."""
    ERROR = "error"
    """InternalServerException."""
    THROTTLE = "throttle"
    """ThrottlingException for every call."""


DOWN = frozenset({Fault.REFUSE, Fault.HANG, Fault.UNAVAILABLE})
"""Faults with which an endpoint does not take part in the quorum."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is refused, and how, beside the rules."""

    all_400: bool = False
    """Answer every error but InternalServerException with HTTP 400, as AWS's API Reference says."""
    check_region: bool = False
    """Refuse a credential scoped to another region than the endpoint's, as SigV4 demands."""
    without_override: frozenset[str] = frozenset()
    """Access key ids whose policy has AllowSafetyRulesOverrides=false."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Looked up without regard to case by the caller's mapping."""
    body: bytes


@dataclass(slots=True)
class Endpoint:
    """What belongs to one endpoint alone."""

    fault: Fault = Fault.NONE
    limit: MutationLimit = field(default_factory=MutationLimit)


class ArcApi:
    """One cluster.

    `save` makes a state durable before it is answered; `changed` hears of the entries of every
    accepted change that changed something; `on_event` gets events for people and reports.
    """

    def __init__(
        self,
        config: ClusterConfig,
        replicas: Replicas,
        endpoints: Mapping[str, Endpoint],
        policy: Policy,
        save: Callable[[ClusterState], None],
        changed: Callable[[Sequence[Entry]], None],
        on_event: Callable[[Event], None],
    ) -> None:
        self.config = config
        self.replicas = replicas
        self.endpoints = endpoints
        self._policy = policy
        self._save = save
        self._changed = changed
        self._on_event = on_event
        self._foreign: set[tuple[str, str]] = set()
        """(endpoint, region it was signed for), told of once each."""

    @property
    def has_quorum(self) -> bool:
        """Can this cluster accept a write?"""
        return sum(e.fault not in DOWN for e in self.endpoints.values()) >= QUORUM

    def answer(self, region: str, request: Request, now: float) -> Answer:
        """The answer of one endpoint. Never raises for anything that a caller can send."""
        try:
            return wire.success(self._perform(region, request, now))
        except ApiError as error:
            return wire.failure(error, self._policy.all_400)

    def transact(
        self,
        entries: Sequence[Entry],
        overrides: Collection[str],
        now: float,
        region: str | None,
    ) -> Refusal | None:
        """Decide on the consensus, save, show, tell. Raises ArcStateError if it cannot be saved."""
        decision = decide(self.config, self.replicas.latest, entries, overrides, now)
        return self._conclude(decision, overrides, now, region)

    def initialise(self, entries: Sequence[Entry], now: float) -> Refusal | None:
        """One transaction per control panel, all of them or none; through the same rules."""
        panels: dict[str, list[Entry]] = {}
        for entry in entries:
            control = self.config.controls.get(entry.control_arn)
            if control is None:
                return NotFound("RoutingControl", entry.control_arn)
            panels.setdefault(control.panel_arn, []).append(entry)
        state = self.replicas.latest
        changed: list[Entry] = []
        for batch in panels.values():
            decision = decide(self.config, state, batch, (), now)
            if not isinstance(decision, Accepted):
                return self._conclude(decision, (), now, None)
            state = decision.state
            changed += decision.changed
        return self._conclude(Accepted(state, tuple(changed)), (), now, None)

    def _conclude(
        self,
        decision: Accepted | Refusal,
        overrides: Collection[str],
        now: float,
        region: str | None,
    ) -> Refusal | None:
        if not isinstance(decision, Accepted):
            error = refused(decision)
            self._on_event(
                {
                    "at": now,
                    "kind": "update_refused",
                    "endpoint": region,
                    "code": error.code,
                    "message": error.message,
                    "rule": decision.rule.name if isinstance(decision, RuleFailed) else None,
                }
            )
            return decision
        if decision.changed:
            self._save(decision.state)
            self._changed(decision.changed)
        self.replicas.accept(region, decision.state, now)
        self._on_event(
            {
                "at": now,
                "kind": "routing_control_updated",
                "endpoint": region,
                "changes": [self._change(entry) for entry in decision.changed],
                "overridden": sorted(overrides),
            }
        )
        return None

    def _change(self, entry: Entry) -> dict[str, str]:
        control = self.config.controls[entry.control_arn]
        return {
            "arn": control.arn,
            "name": control.name,
            "control_panel": self.config.panels[control.panel_arn],
            "state": "On" if entry.is_on else "Off",
        }

    def _perform(self, region: str, request: Request, now: float) -> Mapping[str, Any]:
        _fail(self.endpoints[region].fault)
        operation = wire.operation(
            request.method, request.path, request.headers.get("X-Amz-Target")
        )
        credential = wire.credential(request.headers)
        self._check_region(credential, region, now)
        if operation in wire.UPDATES:
            return self._update(operation, region, request, credential.access_key, now)
        body = wire.document(request.body)
        state = self.replicas.view(region, now)
        if operation == "GetRoutingControlState":
            return self._get(wire.get_request(body), state)
        return self._list(wire.list_request(body), state)

    def _check_region(self, credential: wire.Credential, region: str, now: float) -> None:
        if credential.region == region:
            return
        message = f"the credential is scoped to {credential.region}, the endpoint is in {region}"
        if (region, credential.region) not in self._foreign:
            self._foreign.add((region, credential.region))
            self._on_event(
                {"at": now, "kind": "foreign_region_signed", "endpoint": region, "message": message}
            )
        if self._policy.check_region:
            raise ApiError("AccessDeniedException", f"User is not authorized: {message}")

    def _update(
        self, operation: str, region: str, request: Request, access_key: str, now: float
    ) -> Mapping[str, Any]:
        if not self.endpoints[region].limit.admit(now):
            raise _throttled("more than 3 mutating calls in one second on this endpoint")
        update = wire.update_request(operation, wire.document(request.body))
        if update.overrides and access_key in self._policy.without_override:
            raise ApiError(
                "AccessDeniedException",
                "User is not authorized to override safety rules "
                "(route53-recovery-cluster:AllowSafetyRulesOverrides is false)",
            )
        if not self.has_quorum:
            raise _unavailable("fewer than 3 of the 5 cluster endpoints are reachable")
        try:
            refusal = self.transact(update.entries, update.overrides, now, region)
        except ArcStateError as error:
            raise _internal(str(error)) from error
        if refusal is not None:
            raise refused(refusal)
        return {}

    def _get(self, arn: str, state: ClusterState) -> Mapping[str, Any]:
        control = self.config.controls.get(arn)
        if control is None:
            raise refused(NotFound("RoutingControl", arn))
        return {
            "RoutingControlArn": arn,
            "RoutingControlState": _word(arn, state),
            "RoutingControlName": control.name,
        }

    def _list(self, request: wire.ListRequest, state: ClusterState) -> Mapping[str, Any]:
        panel = request.panel_arn
        if panel is not None and panel not in self.config.panels:
            raise refused(NotFound("ControlPanel", panel))
        controls = [c for c in self.config.controls.values() if panel in (None, c.panel_arn)]
        start = _offset(request.next_token, panel, len(controls))
        end = start + min(request.max_results or PAGE_SIZE, PAGE_SIZE)
        page = {"RoutingControls": [self._listed(c, state) for c in controls[start:end]]}
        if end < len(controls):
            return {**page, "NextToken": _token(end, panel)}
        return page

    def _listed(self, control: RoutingControl, state: ClusterState) -> dict[str, str]:
        return {
            "ControlPanelArn": control.panel_arn,
            "ControlPanelName": self.config.panels[control.panel_arn],
            "RoutingControlArn": control.arn,
            "RoutingControlName": control.name,
            "RoutingControlState": _word(control.arn, state),
            "Owner": control.owner,
        }


def refused(refusal: Refusal) -> ApiError:
    """A refusal in AWS's terms."""
    match refusal:
        case RuleFailed():
            return ApiError(
                "ConflictException",
                refusal.message,
                resourceId=refusal.rule.arn,
                resourceType="SafetyRule",
            )
        case NotFound(resource_type, resource_id):
            return ApiError(
                "ResourceNotFoundException",
                f"{resource_type} {resource_id} was not found",
                resourceId=resource_id,
                resourceType=resource_type,
            )
        case InvalidEntries(fields):
            return wire.invalid(fields)
        case TooManyEntries(count):
            return ApiError(
                "ServiceLimitExceededException",
                f"The request can't update {count} routing control states at the same time; the "
                f"limit is {MAX_ENTRIES}. Try again with fewer routing control states.",
                limitCode="RoutingControlsPerUpdate",
                serviceCode=wire.SERVICE,
            )


def _fail(fault: Fault) -> None:
    if fault is Fault.UNAVAILABLE:
        raise _unavailable("The cluster endpoint isn't available. Try another cluster endpoint.")
    if fault is Fault.ERROR:
        raise _internal("There was an unexpected error during processing of the request.")
    if fault is Fault.THROTTLE:
        raise _throttled("The request was denied because of request throttling.")


def _unavailable(message: str) -> ApiError:
    return ApiError("EndpointTemporarilyUnavailableException", message)


def _internal(message: str) -> ApiError:
    return ApiError("InternalServerException", message, retry_after=1)


def _throttled(message: str) -> ApiError:
    return ApiError("ThrottlingException", message, retry_after=1)


def _word(arn: str, state: ClusterState) -> str:
    return "On" if arn in state.on else "Off"


def _token(offset: int, panel: str | None) -> str:
    return base64.urlsafe_b64encode(json.dumps([offset, panel]).encode()).decode()


def _offset(token: str | None, panel: str | None, total: int) -> int:
    """Where a page starts. A token is good for the panel that it was issued for only."""
    if token is None:
        return 0
    fault = wire.invalid([("NextToken", "is not a token that this list gave out")])
    try:
        offset, issued_for = json.loads(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise fault from error
    if type(offset) is not int or not 0 < offset < total or issued_for != panel:
        raise fault
    return offset
