"""The recovery cluster's data plane on five listeners: the shell around `api`.

It owns what has a life of its own: sockets, the delay until a change reaches DNS, endpoint faults.
There is no control plane here: clusters, panels, controls and rules come from the deployment and
cannot be changed while it runs.

Downside: the five endpoints are one process. They can be made to fail one by one, but a crash of
this process takes all five, which on AWS would need five regions to fail at once.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from lab.arc.api import ArcApi, Endpoint, Event, Fault, Policy, Request, refused
from lab.arc.config import read_cluster
from lab.arc.errors import ArcConfigError, ArcError, ArcRefusedError, ArcStartError
from lab.arc.listener import Handler, Listener
from lab.arc.replicas import Replicas
from lab.arc.rules import ClusterState, Entry
from lab.arc.store import StateStore
from lab.model import Deployment
from lab.settings import ARC_PORT, ARC_REGIONS, Network, Profile

MAX_CONSISTENCY = 15.0
"""Seconds: "no more than 15 seconds maximum" (page introduction-regions-routing)."""
_CONTENT_TYPE = "application/x-amz-json-1.0"

ChangeCallback = Callable[[str, bool], None]


class ArcCluster:
    """One cluster with five endpoints.

    `state_file` keeps the switch positions across restarts. `clock` gives seconds since the epoch.
    `on_event` gets {"at", "kind": "routing_control_updated" | "update_refused" | "endpoint_fault" |
    "foreign_region_signed", …}. `all_400`, `check_region` and `without_override` are explained at
    `api.Policy`. Raises ArcConfigError and ArcStateError.
    """

    def __init__(
        self,
        deployment: Deployment,
        profile: Profile,
        state_file: Path,
        clock: Callable[[], float] = time.time,
        *,
        all_400: bool = False,
        check_region: bool = False,
        without_override: Collection[str] = (),
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        if not 0 <= profile.arc_consistency <= MAX_CONSISTENCY:
            raise ArcConfigError(
                [f"arc_consistency of {profile.arc_consistency} s is not 0 to {MAX_CONSISTENCY} s"]
            )
        self._clock = clock
        self._propagation = profile.propagation
        self._on_event = on_event or (lambda _: None)
        self._store = StateStore(state_file)
        config = read_cluster(deployment)
        saved = self._store.load(config.controls, clock())
        self.is_new = saved is None
        """True when there was no state file: every routing control is Off."""
        self._api = ArcApi(
            config,
            Replicas(ARC_REGIONS, saved or ClusterState(), profile.arc_consistency),
            {region: Endpoint() for region in ARC_REGIONS},
            Policy(all_400, check_region, frozenset(without_override)),
            save=lambda state: self._store.save(config.controls, state),
            changed=self._propagate_later,
            on_event=self._on_event,
        )
        self._listeners: dict[str, Listener] = {}
        self._callbacks: list[ChangeCallback] = []
        self._travelling: deque[tuple[asyncio.TimerHandle, Sequence[Entry]]] = deque()
        self._arrived: dict[str, bool] = {}

    async def start(self, network: Network, port: int = ARC_PORT) -> None:
        """Listen on all five addresses, or on none. `port` 0: a free port each.

        Calls every change callback once per control. Raises ArcStartError with every address that
        cannot be listened on.
        """
        if self._listeners:
            raise ArcError("the cluster was started already")
        problems = []
        for region in ARC_REGIONS:
            listener = Listener(network.arc_address(region), port, self._handler(region))
            self._listeners[region] = listener
            try:
                if self._api.endpoints[region].fault is not Fault.REFUSE:
                    listener.open()
            except OSError as error:
                problems.append(f"{region} at {listener.address}: {error.strerror or error}")
        if problems:
            await self.close()
            raise ArcStartError(problems)
        self._arrived = self.states()
        for callback in self._callbacks:
            self._tell_all(callback)

    async def close(self) -> None:
        """Stop listening, drop every connection, forget changes that have not reached DNS yet."""
        while self._travelling:
            self._travelling.popleft()[0].cancel()
        await asyncio.gather(*(listener.close() for listener in self._listeners.values()))
        self._listeners = {}
        self._arrived = {}

    def endpoints(self) -> list[dict[str, str]]:
        """[{"region", "url"}] of all five, in AWS's order. Raises ArcError before `start`."""
        if not self._listeners:
            raise ArcError("the cluster has no addresses before it is started")
        return [{"region": r, "url": listener.url} for r, listener in self._listeners.items()]

    def on_change(self, callback: ChangeCallback) -> None:
        """Have `callback(routing control ARN, is On)` called after every change.

        That is `profile.propagation` seconds after the change was accepted. It is also called for
        every control at start (at once, when started already).
        """
        self._callbacks.append(callback)
        self._tell_all(callback)

    def set_endpoint_fault(self, region: str, mode: str) -> None:
        """Let one endpoint fail in a `Fault` mode, or work again ("none"). Takes effect at once.

        Raises ValueError for an unknown region or mode, OSError when the port was taken meanwhile.
        """
        endpoint = self._api.endpoints.get(region)
        problems = (
            [] if endpoint else [f"no endpoint in {region}; there are {', '.join(ARC_REGIONS)}"]
        )
        if mode not in set(Fault):
            problems.append(f"no fault {mode}; there are {', '.join(Fault)}")
        if endpoint is None or problems:
            raise ValueError("; ".join(problems))
        fault = Fault(mode)
        listener = self._listeners.get(region)
        if listener is not None and fault is Fault.REFUSE:
            listener.shut()
        elif listener is not None:
            listener.open()
            if endpoint.fault in (Fault.HANG, Fault.LOSE_ANSWER):
                listener.drop_connections()  # what hung is never answered, not even now
        endpoint.fault = fault
        self._on_event(
            {
                "at": self._clock(),
                "kind": "endpoint_fault",
                "endpoint": region,
                "mode": mode,
            }
        )

    def set_states(self, states: Mapping[str, bool]) -> None:
        """The lab's own change (routing control ARN -> On?), seen on all endpoints at once.

        It goes through the same safety rules, one transaction per control panel, but all of it or
        nothing; it is not throttled. Raises ArcRefusedError and ArcStateError.
        """
        entries = [Entry(arn, is_on) for arn, is_on in states.items()]
        refusal = self._api.initialise(entries, self._clock())
        if refusal is not None:
            error = refused(refusal)
            raise ArcRefusedError(f"{error.code}: {error.message}")

    def states(self) -> dict[str, bool]:
        """Routing control ARN -> On?, by the consensus of the cluster."""
        on = self._api.replicas.latest.on
        return {arn: arn in on for arn in self._api.config.controls}

    def status(self) -> dict[str, Any]:
        """Endpoints, quorum, controls and rules, for people and for the lab's control socket."""
        now = self._clock()
        config, replicas = self._api.config, self._api.replicas
        latest = replicas.latest
        return {
            "quorum": self._api.has_quorum,
            "endpoints": [
                {
                    "region": region,
                    "url": self._listeners[region].url if self._listeners else None,
                    "fault": str(endpoint.fault),
                    "changes_behind": replicas.lag(region, now),
                }
                for region, endpoint in self._api.endpoints.items()
            ],
            "routing_controls": [
                {
                    "arn": control.arn,
                    "name": control.name,
                    "control_panel": config.panels[control.panel_arn],
                    "state": "On" if control.arn in latest.on else "Off",
                    "changed_at": latest.changed_at.get(control.arn),
                }
                for control in config.controls.values()
            ],
            "safety_rules": [
                {"arn": r.arn, "name": r.name, "control_panel": config.panels[r.panel_arn]}
                for r in config.rules
            ],
        }

    def _tell_all(self, callback: ChangeCallback) -> None:
        for arn, is_on in self._arrived.items():
            callback(arn, is_on)

    def _propagate_later(self, changed: Sequence[Entry]) -> None:
        if not self._listeners:
            return  # not started: `start` tells every callback everything
        loop = asyncio.get_running_loop()
        handle = loop.call_later(self._propagation, self._propagate)
        self._travelling.append((handle, changed))

    def _propagate(self) -> None:
        # Every change travels equally long, so the first to arrive is the first that left.
        _, changed = self._travelling.popleft()
        for entry in changed:
            self._arrived[entry.control_arn] = entry.is_on
            for callback in self._callbacks:
                callback(entry.control_arn, entry.is_on)

    def _handler(self, region: str) -> Handler:
        endpoint = self._api.endpoints[region]

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            body = await request.read()
            if endpoint.fault is Fault.HANG:
                await _forever()
            answer = self._api.answer(
                region,
                Request(request.method, request.path, request.headers, body),
                self._clock(),
            )
            if endpoint.fault is Fault.LOSE_ANSWER:
                await _forever()
            headers = {**answer.headers, "x-amzn-RequestId": str(uuid.uuid4())}
            return web.Response(
                status=answer.status, body=answer.body, headers=headers, content_type=_CONTENT_TYPE
            )

        return handle


async def _forever() -> None:
    """Wait until the connection is dropped."""
    await asyncio.Event().wait()
