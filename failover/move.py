"""The steps of a move of traffic: an atomic update per batch, read-back, the look from outside.
The steps of a database are put in front of its service's update. A service with an alarm has a
step of its own instead of the update (`takeover_steps`).

In front of them stands the preflight, which is a pure judgement of what was seen; between the two
the operator is asked.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from failover.database_steps import after_update, before_update
from failover.database_work import Work
from failover.errors import SafetyRuleRefusal
from failover.observe import Snapshot
from failover.plan import Plan, ServiceMove
from failover.steps import Check, Run, Step, start_watch
from failover.takeover_steps import PublishTakeOver, after_publishing


def unfit_targets(plan: Plan, snapshot: Snapshot, *, need_probe: bool) -> dict[str, str]:
    """service → why its target region must not get its traffic. Pure."""
    if not need_probe:
        return {}
    target = plan.request.target
    unfit = {}
    # One that moves by itself can stand as wanted, and be away because the target is not well.
    away = [m for m in plan.settled if m.automatic and m.sources != (m.target,)]
    names = [m.service.name for m in (*plan.moves, *away)]
    for name in (*names, *plan.reasons_left_out):
        view = snapshot.views[name]
        if not view.healthy(target):
            unfit[name] = f"{target} does not answer well: {view.pinned[target].answer.describe()}"
    return unfit


def steps_of(plan: Plan, works: Mapping[str, Work] | None = None) -> list[Step]:
    """The steps that carry out `plan`, in order; those of settled services only look.

    `works`: service → its database's, of every move that has one.
    """
    split = plan.request.region is not None
    works = works or {}
    steps: list[Step] = []
    calls = 0
    for moves in plan.groups:
        for move in moves:
            if move.database is not None:
                steps += before_update(works[move.service.name])
        if moves[0].takeover is not None:
            steps.append(PublishTakeOver(moves[0]))
        else:
            steps.append(UpdateControls(moves, calls, split))
            calls += 1
    concerned = (*plan.moves, *plan.settled)
    if not concerned:
        return []
    steps.append(ReadBack(tuple(m for m in plan.moves if m.service.has_arc)))
    # What is there at once comes before what takes an alarm a minute or two.
    after = [step for work in works.values() for step in after_update(work)]
    return [*steps, *after, *after_publishing(plan.moves), SeeFromOutside(concerned)]


@dataclass(frozen=True, slots=True)
class UpdateControls:
    """One UpdateRoutingControlStates call: Off and On of several services, together."""

    moves: tuple[ServiceMove, ...]
    number: int = 0
    """Which call of the plan; turns the order of the endpoints."""
    split: bool = False
    """When a rule refuses the call, ask again for each service alone: in an evacuation one
    service's rule must not hold up the others."""

    @property
    def name(self) -> str:
        return "update-controls"

    @property
    def changes(self) -> bool:
        return True

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(move.service.name for move in self.moves)

    def describe(self) -> str:
        return f"set the routing controls of {', '.join(self.services)}"

    def check(self, run: Run) -> Check:
        live = run.live(self.services)
        needed = any(m.switch_needed for m in self.moves if m.service.name in live)
        return Check.TO_DO if needed else Check.ALREADY_DONE

    def act(self, run: Run) -> None:
        live = [m for m in self.moves if m.service.name in run.live(self.services)]
        for move in live:
            run.timeline(move.service.name).commanded_ms = run.events.now_ms()
        try:
            self._update(run, live, self.number)
        except SafetyRuleRefusal as refusal:
            if not self.split or len(live) == 1:
                raise
            run.events.emit("arc.refused", f"{refusal}; asking for each service alone")
            for number, move in enumerate(live, self.number + 1):
                self._update_alone(run, move, number)

    def _update_alone(self, run: Run, move: ServiceMove, number: int) -> None:
        try:
            self._update(run, [move], number)
        except SafetyRuleRefusal as refusal:
            name = move.service.name
            run.events.emit("arc.refused", f"{name}: {refusal}", service=name)
            run.failures[name] = refusal

    def _update(self, run: Run, moves: Sequence[ServiceMove], number: int) -> None:
        wanted = {e.arn: e.wanted for move in moves for e in move.entries}
        names = [move.service.name for move in moves]
        run.events.emit(
            "arc.commanded", f"asking ARC to set {len(wanted)} controls", services=names
        )
        accepted = run.cluster.update(wanted, deadline=run.options.deadline, first=number)
        event = run.events.emit(
            "arc.accepted",
            f"accepted by ARC endpoint {accepted.endpoint} ({', '.join(names)})",
            services=names,
            endpoint=accepted.endpoint,
            took_ms=accepted.ms,
            attempts=accepted.attempts,
            after_timeout=accepted.ambiguous,
        )
        for move in moves:
            run.changed.add(move.service.name)
            run.timeline(move.service.name).accepted_ms = event.ms
            start_watch(run, move)

    def observe(self, run: Run) -> None:
        """Seen by `ReadBack`, for all calls together."""


@dataclass(frozen=True, slots=True)
class ReadBack:
    """At least three endpoints agree on the wanted states."""

    moves: tuple[ServiceMove, ...]

    @property
    def name(self) -> str:
        return "read-back"

    @property
    def changes(self) -> bool:
        return False

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(move.service.name for move in self.moves)

    def describe(self) -> str:
        return "read the states back from at least three endpoints"

    def check(self, run: Run) -> Check:
        return Check.TO_DO if run.live(self.services) else Check.ALREADY_DONE

    def act(self, run: Run) -> None:
        """Reading changes nothing."""

    def observe(self, run: Run) -> None:
        live = run.live(self.services)
        wanted = {e.arn: e.wanted for m in self.moves if m.service.name in live for e in m.entries}
        reading = run.cluster.read_back(wanted, bound=run.options.read_back)
        run.reading = reading
        agreeing = reading.agreeing(wanted)
        event = run.events.emit(
            "arc.read_back",
            f"{len(agreeing)} of {run.cluster.size} endpoints agree: {', '.join(sorted(agreeing))}",
            agreeing=sorted(agreeing),
            causes=dict(reading.causes),
            disagreements=reading.disagreements(),
        )
        if len(agreeing) < run.cluster.quorum:
            doubt = (
                f"after {run.options.read_back:g} s only {len(agreeing)} of {run.cluster.size} "
                f"endpoints see the new states, {run.cluster.quorum} are needed"
            )
            against = sorted(set(reading.states) - set(agreeing))
            details = [f"{region} sees other states" for region in against]
            details += [f"{region}: {cause}" for region, cause in reading.causes.items()]
            run.events.emit("arc.disagreement", f"{doubt} ({'; '.join(details)})")
            for name in live:
                run.unconfirmed[name] = doubt
            return
        for name in live:
            run.timeline(name).read_back_ms = event.ms


@dataclass(frozen=True, slots=True)
class SeeFromOutside:
    """DNS gives the target's address and the target answers through the failover name."""

    moves: tuple[ServiceMove, ...]

    @property
    def name(self) -> str:
        return "see-from-outside"

    @property
    def changes(self) -> bool:
        return False

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(move.service.name for move in self.moves)

    def describe(self) -> str:
        return "watch DNS and ask from outside until the target region answers"

    def check(self, run: Run) -> Check:
        return Check.TO_DO if self._waiting(run) else Check.ALREADY_DONE

    def _waiting(self, run: Run) -> list[ServiceMove]:
        """Those that have been moved, or that stand right but did not answer from there before."""
        live = run.live(self.services)
        return [
            move
            for move in self.moves
            if move.service.name in live
            and (
                move.service.name in run.changed
                or run.before.views[move.service.name].answering_region() != move.target
            )
        ]

    def act(self, run: Run) -> None:
        for move in self._waiting(run):
            start_watch(run, move)

    def observe(self, run: Run) -> None:
        end = time.monotonic() + run.options.wait
        for move in self._waiting(run):
            name = move.service.name
            arrival = run.watches[name].wait(end - time.monotonic())
            timeline = run.timeline(name)
            timeline.dns_ms, timeline.first_answer_ms = arrival.dns_ms, arrival.answer_ms
            if arrival.answer_ms is None:
                last = arrival.last or "nothing was answered"
                doubt = (
                    f"no answer from {move.target} within {run.options.wait:g} s; last seen: {last}"
                )
                run.events.emit("probe.not_seen", f"{name}: {doubt}", service=name)
                before = run.unconfirmed.get(name)
                run.unconfirmed[name] = f"{before}; {doubt}" if before else doubt
