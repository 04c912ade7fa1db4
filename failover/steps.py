"""Steps: the parts of a move, each a wanted state that is safe to ask for again.

A step says what it will do (`describe`), whether it may and whether it still has to (`check`),
does it (`act`) and waits until it is seen (`observe`). `execute` runs them in order. A step fails
for the services it names; with `keep_going` the others' steps go on, because every service fails
over on its own. Fencing and promoting a database are steps in front of the traffic switch
(`database_steps`), which is a routing control (`move`) or an alarm (`takeover_steps`): nothing here
knows what a step does.

The downside of steps that look again each time is a few reads more than needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from failover.arc import Cluster, Reading
from failover.errors import FailoverError, NotTried
from failover.events import Events
from failover.observe import Observer, Snapshot, Watch
from failover.plan import ServiceMove
from failover.ports import CloudWatch
from failover.recovery import Recovery
from failover.takeover import Publication


class Check(Enum):
    TO_DO = "to do"
    ALREADY_DONE = "already done"


@dataclass(frozen=True, slots=True)
class Options:
    """What the operator chose. All times in seconds."""

    deadline: float = 15.0
    """For reaching any cluster endpoint."""
    read_back: float = 15.0
    """For the endpoints to agree after an update."""
    wait: float = 90.0
    """For the target to be seen from outside after an update."""
    need_probe: bool = True
    """Must the target region answer before traffic is sent there?"""
    database_wait: float = 900.0
    """For RDS to make another region the writer."""
    alarm_wait: float = 180.0
    """For alarms to stand as published: a period with another data point in it, and two of
    evaluation (CloudWatch user guide, "Alarm evaluation")."""


@dataclass(slots=True)
class Timeline:
    """One service's milestones, in milliseconds since the command started."""

    commanded_ms: int | None = None
    accepted_ms: int | None = None
    read_back_ms: int | None = None
    dns_ms: int | None = None
    first_answer_ms: int | None = None
    by_alarm: bool = False
    """Traffic does not follow what was accepted at once, but when Route 53 has seen the data."""
    database: dict[str, int] = field(default_factory=dict)
    """Milestones of the database: drain, drained, promoted, fence_open, each with `_ms`."""

    def stopped_ms(self) -> int | None:
        """From the first moment in which writes may be refused until traffic is sent where they
        are taken: ARC has accepted it, or DNS was seen to follow the alarm. What clients see is
        longer by what their DNS needs."""
        sent = self.dns_ms if self.by_alarm else self.accepted_ms
        if sent is None or "drain_ms" not in self.database:
            return None
        return sent - self.database["drain_ms"]

    def document(self) -> dict[str, int | None]:
        """The first as it is, the others counted from it; the database's as they are."""
        start = self.commanded_ms

        def since(ms: int | None) -> int | None:
            return None if ms is None or start is None else ms - start

        return {
            "commanded_at_ms": start,
            "accepted_ms": since(self.accepted_ms),
            "read_back_ms": since(self.read_back_ms),
            "dns_ms": since(self.dns_ms),
            "first_answer_ms": since(self.first_answer_ms),
            **{f"{name.removesuffix('_ms')}_at_ms": ms for name, ms in self.database.items()},
            **({"writes_stopped_ms": self.stopped_ms()} if self.database else {}),
        }


@dataclass(slots=True)
class Run:
    """What the steps of one command share."""

    recovery: Recovery
    cluster: Cluster
    observer: Observer
    events: Events
    options: Options
    before: Snapshot
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    cloudwatch: CloudWatch | None = None
    published: dict[str, dict[tuple[str, str], Publication]] = field(default_factory=dict)
    """service → what CloudWatch has taken, by region and alarm."""
    waiting: dict[str, tuple[Publication, ...]] = field(default_factory=dict)
    """service → what is published once all before it is seen."""
    silent: set[str] = field(default_factory=set)
    """Regions whose CloudWatch did not take a publication."""
    changed: set[str] = field(default_factory=set)
    """Services of which something was changed."""
    failures: dict[str, FailoverError] = field(default_factory=dict)
    """service → why a step failed; its later steps are skipped."""
    unconfirmed: dict[str, str] = field(default_factory=dict)
    """service → what could not be seen within its bound, although nothing failed."""
    timelines: dict[str, Timeline] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)
    reading: Reading | None = None
    """The last read-back."""
    notes: list[str] = field(default_factory=list)
    """What the operator has to know afterwards."""
    done: list[str] = field(default_factory=list)
    """The steps that ended well, for a report when the run is interrupted."""
    current: str | None = None
    """The step that is under way."""

    def live(self, services: Iterable[str]) -> list[str]:
        """Those of `services` that have not failed."""
        return [name for name in services if name not in self.failures]

    def timeline(self, service: str) -> Timeline:
        return self.timelines.setdefault(service, Timeline())


def start_watch(run: Run, move: ServiceMove) -> None:
    """Begins to watch a service from outside; `move.SeeFromOutside` collects what was seen."""
    name = move.service.name
    if name not in run.watches:
        run.watches[name] = Watch(
            run.observer, run.events, move.service, move.target, run.before.views[name]
        ).start()


class Step(Protocol):
    """One part of a move."""

    @property
    def name(self) -> str:
        """Short and stable, for the journal: `update-controls`."""

    @property
    def changes(self) -> bool:
        """Does `act` change anything? Such steps are left out once an earlier one has failed."""

    @property
    def services(self) -> tuple[str, ...]:
        """The services that have failed if this step fails."""

    def describe(self) -> str:
        """One line for the plan: what will be done."""

    def check(self, run: Run) -> Check:
        """May this be done, and is it still to do? Changes nothing.

        Raises PreconditionError when it may not.
        """

    def act(self, run: Run) -> None:
        """Sets the wanted state. Called only if `check` said TO_DO. Raises FailoverError."""

    def observe(self, run: Run) -> None:
        """Waits, within a bound, until the wanted state is seen. Raises FailoverError."""


def execute(steps: Sequence[Step], run: Run, *, keep_going: bool) -> None:
    """Runs `steps` in order; failures are kept in `run.failures`.

    Without `keep_going` no step that changes anything runs after the first failure; what has been
    changed by then is still observed.
    """
    failed = False
    for step in steps:
        services = run.live(step.services)
        if not services:
            continue
        if failed and not keep_going and step.changes:
            for name in services:
                run.failures[name] = NotTried(f"{name}: not tried after the failure before it")
            continue
        run.current = step.describe()
        try:
            _run_step(step, run)
        except FailoverError as error:
            run.failures.update(dict.fromkeys(services, error))
            run.events.emit(
                "step.failed", f"{step.name}: {error}", step=step.name, services=services
            )
            failed = True
        else:
            run.done.append(step.describe())
        run.current = None


def _run_step(step: Step, run: Run) -> None:
    run.events.emit("step.started", step=step.name, services=list(step.services))
    if step.check(run) is Check.ALREADY_DONE:
        run.events.emit("step.already_done", step=step.name, services=list(step.services))
        return
    step.act(run)
    step.observe(run)
    run.events.emit("step.done", step=step.name, services=list(step.services))
