"""What the commands do: look, plan, show, ask, execute, report. The shell around the pure parts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from failover import journal as journals
from failover import move, plan, render, steps, verdict
from failover.arc import CONSISTENCY, Cluster
from failover.arc_transport import BotocoreTransport
from failover.cloudwatch import BotocoreCloudWatch
from failover.database_plan import Mode
from failover.database_work import Work, stopped, work_for
from failover.dns import resolver_for
from failover.errors import (
    DONE,
    INTERRUPTED,
    PRECONDITION,
    FailoverError,
    PreconditionError,
    UsageError,
)
from failover.events import Event, Events
from failover.observe import Observer, Snapshot
from failover.observe_database import LOOK_TIMEOUT, DatabaseObserver, cause_of
from failover.observe_takeover import TakeOverObserver
from failover.operator_routes import HttpsOperator
from failover.plan import Plan, Request, Seen
from failover.ports import ArcTransport, CloudWatch, Operator, Probe, Rds, Resolver
from failover.probe import HttpProbe
from failover.rds import BotocoreRds
from failover.recovery import Recovery
from failover.steps import Options, Run
from failover.verdict import Verdict

GIVEN_UP, LEFT = 1.0, 2.0
"""Seconds for what a region says of its database when it is given up, or evacuated."""
REPLICA_PAUSE = 1.0
"""Seconds between two looks at a region that is to become a replica again."""


@dataclass(frozen=True, slots=True)
class World:
    """The outside, so that tests can pass their own."""

    transport: ArcTransport
    resolver: Resolver
    probe: Probe
    interactive: bool
    ask: Callable[[str], str]
    events: Callable[[], Events] = Events
    rds: Rds | None = None
    operator: Operator | None = None
    """Both, or databases cannot be asked."""
    cloudwatch: CloudWatch | None = None
    """Or alarms cannot be asked."""
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    close: Callable[[], None] = lambda: None

    def databases(self, recovery: Recovery) -> DatabaseObserver | None:
        if self.rds is None or self.operator is None:
            return None
        return DatabaseObserver(recovery, self.rds, self.operator)

    def observer(self, recovery: Recovery, cluster: Cluster) -> Observer:
        takeovers = TakeOverObserver(recovery, self.cloudwatch) if self.cloudwatch else None
        return Observer(
            recovery, cluster, self.resolver, self.probe, self.databases(recovery), takeovers
        )


def real_world(recovery: Recovery) -> World:
    def ask(question: str) -> str:
        sys.stderr.write(question)
        sys.stderr.flush()
        return sys.stdin.readline()

    resolver = resolver_for(recovery)
    operator = HttpsOperator(recovery, resolver)
    return World(
        BotocoreTransport(recovery),
        resolver,
        HttpProbe(recovery.ca_file),
        sys.stdin.isatty(),
        ask,
        rds=BotocoreRds(recovery),
        operator=operator,
        cloudwatch=BotocoreCloudWatch(recovery),
        close=operator.close,
    )


def status(
    recovery: Recovery,
    options: argparse.Namespace,
    words: Sequence[str],
    world: World | None = None,
) -> int:
    """Shows everything that can be seen. 0 if it could be read; 6 if no endpoint answered, or no
    alarm; with `--check` 4 if something is not as it should be."""
    plan.check_request(recovery, options.services, None, None, choose=False)
    world = world or real_world(recovery)
    events = Events()
    cluster = Cluster(recovery.cluster_endpoints, world.transport, events)
    observer = world.observer(recovery, cluster)
    try:
        snapshot = observer.everything(options.services or recovery.services)
    finally:
        world.close()
    faults = render.status_faults(recovery, snapshot)
    unread = snapshot.unread()
    if unread is not None:
        code = unread.exit_code
    else:
        code = PRECONDITION if faults and options.check else DONE
    if options.json:
        document = journals.status_document(recovery, snapshot, faults, list(words), code)
        _print_json(document)
    else:
        _print(render.status_text(recovery, snapshot, faults))
    return code


def change(
    recovery: Recovery,
    options: argparse.Namespace,
    words: Sequence[str],
    world: World | None = None,
) -> int:
    """`move`, `back` and `evacuate`. Returns the exit code.

    Raises UsageError before anything is tried.
    """
    request = make_request(recovery, options)
    world = world or real_world(recovery)
    if not (options.yes or options.dry_run or world.interactive):
        raise UsageError(
            "there is no terminal to ask on, so nothing is changed without --yes",
            ["--dry-run shows the plan without asking"],
        )
    try:
        return _Change(recovery, options, words, world, request).carry_out()
    finally:
        world.close()


def make_request(recovery: Recovery, options: argparse.Namespace) -> Request:
    """The checked request. Raises UsageError with every wrong name."""
    if options.command == "move":
        plan.check_request(recovery, options.services, options.target)
        names = tuple(dict.fromkeys(options.services))
        return Request("move", names, options.target, None, options.allow_data_loss)
    if options.command == "back":
        target = options.target or recovery.regions[0]
        plan.check_request(recovery, options.services, target)
        return Request("back", tuple(dict.fromkeys(options.services)), target)
    plan.check_request(recovery, (), options.target, options.region)
    target = options.target or plan.other_region(recovery, options.region)
    return Request(
        "evacuate", tuple(recovery.services), target, options.region, options.allow_data_loss
    )


class _Change:
    """One command that changes something, from the first look to the last word."""

    def __init__(
        self,
        recovery: Recovery,
        options: argparse.Namespace,
        words: Sequence[str],
        world: World,
        request: Request,
    ) -> None:
        self._recovery = recovery
        self._options = options
        self._world = world
        self._request = request
        self._out: TextIO = sys.stderr if options.json else sys.stdout
        self._events = world.events()
        self._events.listen(self._show)
        self._cluster = Cluster(recovery.cluster_endpoints, world.transport, self._events)
        self._observer = world.observer(recovery, self._cluster)
        self._works: dict[str, Work] = {}
        self._started_at = self._events.emit("command.started", command=list(words)).at
        self._words = list(words)
        self._journal: journals.Journal | None = None
        self._before: Snapshot | None = None
        self._after: Snapshot | None = None
        self._plan: Plan | None = None
        self._run: Run | None = None

    def carry_out(self) -> int:
        try:
            result = self._try()
        except FailoverError as error:
            result = Verdict(error.exit_code, self._changed(), (str(error),))
            self._say(f"{result.status.capitalize()} (exit {result.exit_code}): {error}")
        except KeyboardInterrupt:
            result = self._interrupted()
        self._finish(result)
        return result.exit_code

    def _try(self) -> Verdict:
        options = Options(
            deadline=self._options.deadline,
            wait=self._options.wait,
            read_back=min(CONSISTENCY, self._options.wait),
            need_probe=not self._options.without_target_probe,
            database_wait=self._options.database_wait,
            alarm_wait=self._options.alarm_wait,
        )
        before = self._look_until_fit(options)
        assert self._plan is not None
        self._say(render.plan_text(self._plan, len(before.reading.states), self._known_lags()))
        self._refuse()
        if self._options.dry_run:
            self._say("\nDry run: nothing was changed.")
            return Verdict(DONE, False)
        if self._plan.moves and not self._confirmed():
            raise PreconditionError("not confirmed; nothing was changed")
        return self._execute(options, before)

    def _look_until_fit(self, options: Options) -> Snapshot:
        """`_look`; for `back` again and again while the old region is not yet a replica."""
        end = self._world.clock() + getattr(self._options, "wait_for_replica", 0.0)
        last = ""
        while True:
            before = self._look(options)
            assert self._plan is not None
            missing = "; ".join(f"{name}: {why}" for name, why in self._plan.left_out)
            if not missing or self._world.clock() + REPLICA_PAUSE >= end:
                return before
            if missing != last:
                self._events.emit("database.waiting", f"waiting: {missing}")
            last = missing
            self._world.sleep(REPLICA_PAUSE)

    def _look(self, options: Options) -> Snapshot:
        """What is; and `self._plan`, without the services whose target is not fit for them."""
        before = self._observer.around_move(
            self._request.services,
            self._request.target,
            deadline=options.deadline,
            need_probe=options.need_probe,
            patience=self._patience(),
            spare_others=self._request.region is not None,
        )
        self._before = before
        for region, cause in before.reading.causes.items():
            self._events.emit("arc.endpoint_failed", "", endpoint=region, cause=cause)
        states = before.reading.agreed()
        missing = plan.missing_controls(self._recovery, states, self._request.services)
        if missing and before.fault is None:
            raise PreconditionError("recovery.json and the cluster do not fit together:", missing)
        seen = Seen(
            before.databases,
            before.takeovers,
            {name: view.dns_region() for name, view in before.views.items()},
            cause_of(before.fault) if before.fault else "",
        )
        whole = plan.make_plan(self._recovery, states, self._request, seen)
        unfit = move.unfit_targets(whole, before, need_probe=options.need_probe)
        self._plan = plan.without(whole, unfit)
        self._warn(before)
        return before

    def _patience(self) -> float:
        """Nobody waits long for a region that is being left: it may hang."""
        if self._request.allow_data_loss:
            return GIVEN_UP
        return LEFT if self._request.region is not None else LOOK_TIMEOUT

    def _known_lags(self) -> dict[str, str]:
        """service → what earlier journals say of a lag that nobody can measure any more."""
        assert self._plan is not None
        return {
            m.service.name: journals.last_lag(self._options.journal_dir, m.service.name, m.target)
            for m in self._plan.moves
            if m.database is not None and m.database.mode is Mode.UNPLANNED
        }

    def _warn(self, before: Snapshot) -> None:
        """Says what is odd about the cluster before anything is changed."""
        answered = len(before.reading.states)
        if before.arc_asked and before.fault is None and answered < self._cluster.quorum:
            self._events.emit(
                "warning", f"only {answered} of {self._cluster.size} ARC endpoints answered"
            )
        for arn, said in before.reading.disagreements().items():
            self._events.emit("warning", f"the ARC endpoints disagree on {arn}", states=said)

    def _refuse(self) -> None:
        """A move is all or nothing; an evacuation saves what it can."""
        assert self._plan is not None
        nothing_left = not self._plan.moves and not self._plan.settled
        if self._before is not None and self._before.fault and not self._plan.moves:
            raise self._before.fault
        if self._plan.left_out and (self._request.region is None or nothing_left):
            raise PreconditionError(
                "not every precondition is met, so nothing was changed:",
                [f"{name}: {why}" for name, why in self._plan.left_out],
            )

    def _confirmed(self) -> bool:
        if self._options.yes:
            return True
        return self._world.ask("\nType yes to go ahead: ").strip().lower() == "yes"

    def _execute(self, options: Options, before: Snapshot) -> Verdict:
        assert self._plan is not None
        self._journal = journals.Journal(
            self._options.journal_dir, self._request.command, self._started_at
        )
        self._run = Run(
            self._recovery,
            self._cluster,
            self._observer,
            self._events,
            options,
            before,
            self._world.sleep,
            self._world.clock,
            self._world.cloudwatch,
        )
        self._works = self._make_works(self._plan)
        self._events.listen(self._keep)
        if self._plan.moves:
            self._say("")
        steps.execute(
            move.steps_of(self._plan, self._works),
            self._run,
            keep_going=self._request.region is not None,
        )
        self._look_after()
        result = verdict.settle(
            self._run.changed,
            self._run.failures,
            self._run.unconfirmed,
            self._plan.reasons_left_out,
        )
        self._say("\n" + render.result_text(self._plan, self._run, result))
        return result

    def _make_works(self, plan: Plan) -> dict[str, Work]:
        """service → its database's work, of every service of `plan` that has one to do."""
        rds, operator = self._world.rds, self._world.operator
        if rds is None or operator is None:
            return {}
        works = {
            m.service.name: work_for(m.database, m.service, rds, operator)
            for m in plan.moves
            if m.database is not None
        }
        for work in works.values():
            work.clock = self._world.clock
        return works

    def _look_after(self) -> None:
        """The state afterwards, for the journal."""
        try:
            self._after = self._observer.around_move(
                self._request.services,
                self._request.target,
                deadline=1.0,
                need_probe=True,
                database_timeout=1.5,
            )
        except FailoverError as error:
            self._events.emit("warning", f"the state afterwards could not be read: {error}")

    def _interrupted(self) -> Verdict:
        run = self._run
        lines = ["\nInterrupted. It is safe to run the same command again."]
        if run is None or not (run.changed or run.current):
            lines.append("Nothing was changed.")
        else:
            lines += [f"  done: {step}" for step in run.done]
            accepted = [n for n, line in run.timelines.items() if line.accepted_ms is not None]
            for who, by_arc in (("ARC", True), ("CloudWatch", False)):
                names = [n for n in accepted if self._recovery.services[n].has_arc is by_arc]
                if names:
                    lines.append(f"  accepted by {who}: {', '.join(sorted(names))}")
            lines += [f"  {line}" for line in stopped(self._works.values())]
            if run.current:
                lines.append(f"  under way, perhaps done: {run.current}")
        self._say("\n".join(lines))
        return Verdict(INTERRUPTED, self._changed(), tuple(lines[1:]))

    def _changed(self) -> bool:
        return self._run is not None and bool(self._run.changed)

    def _finish(self, result: Verdict) -> None:
        """Writes the journal's last state and prints what is asked for."""
        self._events.emit(
            "result", status=result.status, deviated=result.deviated, exit_code=result.exit_code
        )
        document = self._document(result)
        if self._journal is not None:
            self._journal.write(document)
            self._say(self._journal.fault or f"Journal: {self._journal.path}")
        if self._options.json:
            _print_json(document)

    def _document(self, result: Verdict | None) -> dict[str, Any]:
        document = journals.command_document(
            self._recovery, self._words, self._started_at, self._events.seen
        )
        for key, snapshot in (("before", self._before), ("after", self._after)):
            document[key] = (
                journals.snapshot_document(snapshot, self._recovery) if snapshot else None
            )
        document["plan"] = journals.plan_document(self._plan) if self._plan else None
        document["measurements"] = journals.measurements(self._run) if self._run else {}
        document["status"] = result.status if result else "running"
        document["deviated"] = result.deviated if result else None
        document["reasons"] = list(result.reasons) if result else []
        document["exit_code"] = result.exit_code if result else None
        return document

    def _keep(self, event: Event) -> None:
        """Brings the journal up to date with every step and every accepted change."""
        if self._journal is not None and event.kind.startswith(
            ("step.", "arc.accepted", "takeover.", "database.")
        ):
            self._journal.write(self._document(None))

    def _show(self, event: Event) -> None:
        line = render.event_line(event)
        if line is not None:
            self._say(line)

    def _say(self, text: str) -> None:
        self._out.write(text + "\n")
        self._out.flush()


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")


def _print_json(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document, indent=1) + "\n")
