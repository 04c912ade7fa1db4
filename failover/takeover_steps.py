"""The steps of a service with the switch "alarm" or "health": publish, and read the alarms back.

    publish-takeover   the data points of one service, in order
    read-alarms        of all services together, until the alarms stand as wanted

Each region is on its own: of the one that is left, or given up, it is enough to have tried once.
An alarm compares the *maximum* of a period, so a 0 that follows a 1 within it counts only from the
next period on, and without more data an alarm keeps its state (CloudWatch user guide, "Configuring
how CloudWatch alarms treat missing data"). So what an alarm does not show yet is published again.
The price is a data point or two more than needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from failover.errors import FailoverError, NoEndpointError
from failover.observe_database import cause_of
from failover.plan import ServiceMove
from failover.ports import EndpointFailed
from failover.steps import Check, Run, Step, start_watch
from failover.takeover import TAKEN, Publication, TakeOverPlan, leftover_note
from failover.together import Batch, TooLate, bounded

ATTEMPT = 3.0
"""Seconds for one publication, all included."""
OTHER_REGION = 3.0
"""Seconds for a publication that can be done without, or in another way."""
READ = 2.5
"""Seconds for one region's alarms."""
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two tries, doubled each time."""
AGAIN, LONGEST_AGAIN = 2.0, 30.0
"""Seconds until a position that no alarm shows is published again, doubled each time: at least once
in every period of an alarm."""


def after_publishing(moves: Sequence[ServiceMove]) -> list[Step]:
    with_alarms = tuple(move for move in moves if move.takeover is not None)
    return [ReadAlarms(with_alarms)] if with_alarms else []


class Unreached(Exception):
    """A publication that must be made could not be; there is another way."""


@dataclass(frozen=True, slots=True)
class PublishTakeOver:
    """The positions of one service are published, in order."""

    move: ServiceMove

    @property
    def name(self) -> str:
        return "publish-takeover"

    @property
    def changes(self) -> bool:
        return True

    @property
    def services(self) -> tuple[str, ...]:
        return (self.move.service.name,)

    @property
    def plan(self) -> TakeOverPlan:
        assert self.move.takeover is not None
        return self.move.takeover

    def describe(self) -> str:
        return f"publish that {self.move.target} answers for {self.move.service.name}"

    def check(self, run: Run) -> Check:
        live = run.live(self.services)
        return Check.TO_DO if live and self.plan.needed else Check.ALREADY_DONE

    def act(self, run: Run) -> None:
        name = self.move.service.name
        run.timeline(name).commanded_ms = run.events.now_ms()
        run.timeline(name).by_alarm = True
        try:
            self._publish(run, self.plan.publications, last=not self.plan.otherwise)
        except Unreached:
            run.notes.append(leftover_note(self.move.service, run.recovery.regions))
            self._publish(run, self.plan.otherwise, last=True)
        event = run.events.emit(
            "takeover.accepted",
            f"accepted by CloudWatch ({name})",
            service=name,
            positions=[describe_done(p) for p in run.published.get(name, {}).values()],
        )
        run.timeline(name).accepted_ms = event.ms
        start_watch(run, self.move)

    def _publish(self, run: Run, publications: Iterable[Publication], *, last: bool) -> None:
        """Raises NoEndpointError at the first that must be made and cannot be, or Unreached if
        this is not the `last` way to do it.
        """
        name = self.move.service.name
        run.waiting[name] = tuple(p for p in publications if p.waits)
        for publication in (p for p in publications if not p.waits):
            cause = tell(run, name, publication, spare=not (publication.must and last))
            if cause is None or not publication.must:
                continue
            if not last:
                raise Unreached
            where = f"CloudWatch in {publication.region} could not be reached:"
            raise NoEndpointError(where, [cause])

    def observe(self, run: Run) -> None:
        """Seen by `ReadAlarms`, for all services together."""


def tell(run: Run, name: str, publication: Publication, *, spare: bool) -> str | None:
    """Publishes, and says what came of it; None, or why it could not be.

    `spare`: it can be done without, or in another way.
    """
    cause = _try(run, name, publication, spare=spare)
    about = {"service": name, "region": publication.region, "out": publication.out}
    if cause is None:
        run.published.setdefault(name, {})[publication.key] = publication
        run.changed.add(name)
        text = f"{name}: {describe_done(publication)}"
        run.events.emit("takeover.published", text, taken=publication.taken, **about)
        return None
    run.silent.add(publication.region)
    text = f"{name}: {publication.region} could not be told ({cause})"
    run.events.emit("takeover.not_published", f"{text}; going on", **about)
    if not publication.must:
        unread = f"; whether {publication.out} is taken over there was not read either"
        run.notes.append(text + (unread if publication.current is None else ""))
    return cause


def _try(run: Run, name: str, publication: Publication, *, spare: bool) -> str | None:
    """None, or why it could not be. A refusal of what must be done is raised.

    What can be spared is not waited for, and not tried in a region that was silent before; what
    cannot is tried there again, but not for long: many services may be waiting.
    """
    if spare and publication.region in run.silent:
        return "it did not answer before"
    brief = spare or publication.region in run.silent
    end = run.clock() + (OTHER_REGION if brief else run.options.deadline)
    pause = FIRST_PAUSE
    while True:
        try:
            publish(run, publication)
        except (EndpointFailed, TooLate) as failure:
            cause = str(failure)
            if isinstance(failure, TooLate) or failure.ambiguous:
                run.changed.add(name)
        except FailoverError as error:
            if publication.must:
                raise
            return cause_of(error)
        else:
            return None
        if not publication.must or run.clock() + pause >= end:
            return cause
        run.sleep(pause)
        pause = min(pause * 2, LONGEST_PAUSE)


def publish(run: Run, publication: Publication) -> None:
    """One attempt. Raises EndpointFailed, TooLate, or what CloudWatch refuses."""
    assert run.cloudwatch is not None
    bounded(partial(run.cloudwatch.publish, publication.takeover, publication.taken), ATTEMPT)


def describe_done(publication: Publication) -> str:
    """ "told us-west-2 that us-east-1 is taken over"."""
    how = "taken over" if publication.taken else "not taken over"
    return f"told {publication.region} that {publication.out} is {how}"


@dataclass(frozen=True, slots=True)
class ReadAlarms:
    """The alarms of all services that were published stand as wanted."""

    moves: tuple[ServiceMove, ...]

    @property
    def name(self) -> str:
        return "read-alarms"

    @property
    def changes(self) -> bool:
        return False

    @property
    def services(self) -> tuple[str, ...]:
        return tuple(move.service.name for move in self.moves)

    def describe(self) -> str:
        return "read the alarms until they stand as published"

    def check(self, run: Run) -> Check:
        live = run.live(self.services)
        return Check.TO_DO if any(run.published.get(n) for n in live) else Check.ALREADY_DONE

    def act(self, run: Run) -> None:
        """Reading changes nothing."""

    def observe(self, run: Run) -> None:
        pending = {n: dict(run.published.get(n, {})) for n in run.live(self.services)}
        pending = {name: wanted for name, wanted in pending.items() if wanted}
        bound = run.options.alarm_wait
        end, again = run.clock() + bound, AGAIN
        publish_at, pause = run.clock() + again, FIRST_PAUSE
        while True:
            states, causes = read_alarms(run, pending)
            _take_out_seen(run, pending, states)
            hopeless = all(
                not p.must and p.region in causes for w in pending.values() for p in w.values()
            )
            if hopeless or run.clock() + pause >= end:
                break
            if run.clock() >= publish_at:
                _publish_again(run, pending, states)
                again = min(again * 2, LONGEST_AGAIN)
                publish_at = run.clock() + again
            run.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)
        for name, wanted in pending.items():
            _say_unseen(run, name, list(wanted.values()), states, causes)


Pending = dict[str, dict[tuple[str, str], Publication]]
"""service → what it waits for, by region and alarm."""
States = dict[tuple[str, str], str]


def read_alarms(run: Run, pending: Pending) -> tuple[States, dict[str, str]]:
    """The states of all alarms that are waited for, and region → why it told nothing."""
    assert run.cloudwatch is not None
    names: dict[str, list[str]] = {}
    for region, alarm in (key for wanted in pending.values() for key in wanted):
        names.setdefault(region, []).append(alarm)
    ask = run.cloudwatch.alarms
    results = Batch({r: partial(ask, r, alarms) for r, alarms in names.items()}).wait(READ)
    states: States = {}
    causes: dict[str, str] = {}
    for region in names:
        result = results.get(region)
        if isinstance(result, EndpointFailed | FailoverError):
            causes[region] = cause_of(result)
        elif isinstance(result, Exception):
            raise result
        elif result is None:
            causes[region] = f"no answer within {READ:g} s"
        else:
            states.update({(region, alarm): state for alarm, state in result.items()})
    return states, causes


def _stands(publication: Publication, states: States) -> bool:
    state = states.get(publication.key)
    return state is not None and (state == TAKEN) is publication.taken


def _take_out_seen(run: Run, pending: Pending, states: States) -> None:
    """Tells of each service whose alarms all stand as wanted, and waits for it no longer; unless
    something was to be published once they do.
    """
    for name, wanted in list(pending.items()):
        for key in [key for key, p in wanted.items() if _stands(p, states)]:
            del wanted[key]
        if wanted:
            continue
        for publication in run.waiting.pop(name, ()):
            if tell(run, name, publication, spare=True) is None:
                wanted[publication.key] = publication
        if wanted:
            continue
        del pending[name]
        event = run.events.emit(
            "takeover.read_back", f"{name}: the alarms stand as published", service=name
        )
        run.timeline(name).read_back_ms = event.ms


def _publish_again(run: Run, pending: Pending, states: States) -> None:
    """What was read and is not as wanted; what comes of it is read."""
    for wanted in pending.values():
        for publication in wanted.values():
            if publication.key not in states:
                continue
            try:
                publish(run, publication)
            except (EndpointFailed, TooLate, FailoverError) as error:
                run.events.emit(
                    "takeover.not_published", "", region=publication.region, cause=cause_of(error)
                )


def _say_unseen(
    run: Run,
    name: str,
    wanted: Sequence[Publication],
    states: States,
    causes: dict[str, str],
) -> None:
    """Not seen is not confirmed, but for what can be done without in a region that is gone."""
    said = []
    for publication in wanted:
        region, alarm = publication.key
        state = states.get(publication.key, "not there")
        cause = causes.get(region) or f"it is {state}"
        line = f"alarm {alarm} in {region} does not stand as published: {cause}"
        if publication.must or region not in causes:
            said.append(line)
        else:
            run.notes.append(f"{name}: {line}")
    for publication in run.waiting.get(name, ()):
        said.append(f"so {publication.region} was not told that {publication.out} is free")
    if said:
        doubt = f"after {run.options.alarm_wait:g} s {'; '.join(said)}"
        run.events.emit("takeover.not_seen", f"{name}: {doubt}", service=name)
        run.unconfirmed[name] = doubt
