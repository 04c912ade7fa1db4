"""The recovery cluster as one thing: five endpoints, any of which will do.

An update goes to the endpoints in random order, those that answered the last read first; one
attempt each. Network errors, throttling, 5xx and "temporarily unavailable" lead to the next
endpoint, and after a whole round to further rounds until the deadline. What no endpoint would
answer otherwise (a safety rule, access, validation) stops at once. (Developer guide, "Best
practices for Amazon Application Recovery Controller": the endpoints are taken in and out of
service as routine, so one failing is normal.)

A read asks all endpoints side by side, which also tells which of them hang before anything has to
be changed through them. The price is five calls where one would do; reads have no quota.

A time-out leaves open whether the update was applied. Setting a state twice does no harm, so the
next endpoint is asked; if that refuses (a rule's wait period runs because the first attempt *was*
applied), the states are read before anything is called refused.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from failover.errors import FailoverError, NoEndpointError, SafetyRuleRefusal
from failover.events import Events
from failover.plan import SPACING, Wanted
from failover.ports import ArcTransport, EndpointFailed
from failover.recovery import Endpoint
from failover.together import Batch, TooLate, bounded

QUORUM = 3
"""Endpoints that must agree on a read-back; the cluster keeps at least this many up."""
CONSISTENCY = 15.0
"""Seconds after which all endpoints agree (AWS documents 5 on average, 15 at most)."""
READ_TIMEOUT = 2.0
"""Seconds for one read of one endpoint, all included: resolving, connecting, TLS, answer."""
UPDATE_TIMEOUT, LONGEST_UPDATE = 1.5, 4.0
"""Seconds for one update at one endpoint, all included: in the first round, doubled in each further
one up to the second figure. Two endpoints that hang cost 3 s so, and one that is merely slow is
given its chance before anything is called unreachable."""
DEADLINE = 15.0
"""Seconds for reaching any endpoint at all, in as many rounds as fit."""
STRAGGLERS = 0.25
"""Seconds that a read waits for more endpoints once a quorum has answered: one of them may know
of a change that the others do not see yet."""
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 2.0
"""Seconds between rounds over all endpoints; doubled each time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the endpoints say: states from those that answered, a cause for the others."""

    states: Mapping[str, Wanted] = field(default_factory=dict)
    """endpoint's region → states."""
    causes: Mapping[str, str] = field(default_factory=dict)
    """endpoint's region → why it gave none."""
    ms: Mapping[str, int] = field(default_factory=dict)

    def agreed(self) -> dict[str, bool | None]:
        """One state per control; None where the endpoints disagree.

        A change becomes visible on the endpoints one after the other, so that the most frequent
        answer may be the old one.
        """
        found: dict[str, bool | None] = {}
        for states in self.states.values():
            for arn, is_on in states.items():
                found[arn] = is_on if found.get(arn, is_on) is is_on else None
        return found

    def disagreements(self) -> dict[str, dict[str, bool]]:
        """control → endpoint's region → state, for controls that endpoints see differently."""
        found = {}
        for arn in {a for states in self.states.values() for a in states}:
            said = {r: states[arn] for r, states in self.states.items() if arn in states}
            if len(set(said.values())) > 1:
                found[arn] = said
        return found

    def agreeing(self, wanted: Wanted) -> list[str]:
        """The endpoints that see every control of `wanted` as wanted."""
        return [region for region, states in self.states.items() if _agrees((0, states), wanted)]


@dataclass(frozen=True, slots=True)
class Accepted:
    """An update that ARC took. `ambiguous`: seen by reading back after a time-out."""

    endpoint: str
    ms: int
    attempts: int
    ambiguous: bool = False


class Cluster:
    """Reads and updates by way of whichever endpoints work."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: ArcTransport,
        events: Events,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        read_timeout: float = READ_TIMEOUT,
        update_timeout: float = UPDATE_TIMEOUT,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - spreads load; nothing is secret
        self._endpoints = tuple(endpoints)
        self._shuffled = tuple(rng.sample(self._endpoints, len(self._endpoints)))
        self._transport = transport
        self._events = events
        self._clock = clock
        self._sleep = sleep
        self._read_timeout = read_timeout
        self._update_timeout = update_timeout
        self._answered: set[str] = set()
        self._last_update: dict[str, float] = {}

    @property
    def size(self) -> int:
        return len(self._endpoints)

    @property
    def quorum(self) -> int:
        return min(QUORUM, self.size)

    def read(self, *, everyone: bool = False, timeout: float | None = None) -> Reading:
        """One round: all endpoints side by side.

        Returns when a quorum has answered, or with `everyone` when all have or are too late.
        Raises CallRejected or CredentialsError if one says what all would say.
        """
        timeout = self._read_timeout if timeout is None else timeout
        return self.start_read().finish(timeout, self.size if everyone else self.quorum)

    def start_read(self) -> ReadRound:
        """A round that goes on in the background until it is finished."""
        return ReadRound(self._endpoints, self._transport, self._clock, self._note_answers)

    def read_until_answered(self, deadline: float = DEADLINE) -> Reading:
        """Rounds until any endpoint has answered; NoEndpointError after `deadline` seconds."""
        rounds = _Rounds(self._clock, self._sleep, deadline)
        while True:
            timeout = min(self._read_timeout, rounds.left())
            reading = self.start_read().finish(timeout, self.quorum, stragglers=True)
            if reading.states:
                return reading
            rounds.failed((), reading.causes)

    def update(self, wanted: Wanted, *, deadline: float = DEADLINE, first: int = 0) -> Accepted:
        """Sets `wanted` in one transaction, by way of the first endpoint that takes it.

        `first` turns the order, so that many updates go round the endpoints. Raises
        SafetyRuleRefusal, CallRejected or CredentialsError at once, NoEndpointError with every
        endpoint's cause after `deadline` seconds.
        """
        started = self._clock()
        rounds = _Rounds(self._clock, self._sleep, deadline)
        tried = _Tried()
        timeout = self._update_timeout
        while True:
            causes: dict[str, str] = {}
            for endpoint in self._order(first):
                if rounds.over():
                    break
                self._pace(endpoint)
                tried.attempts += 1
                try:
                    self._attempt(endpoint, wanted, min(timeout, rounds.left()))
                except EndpointFailed as failure:
                    causes[endpoint.region] = failure.cause
                    tried.note(failure)
                    self._say_failed(endpoint, failure)
                except SafetyRuleRefusal:
                    if tried.doubtful and self._holds(wanted):
                        return Accepted(endpoint.region, self._ms(started), tried.attempts, True)
                    raise
                else:
                    return Accepted(endpoint.region, self._ms(started), tried.attempts)
            if tried.doubtful and self._holds(wanted):
                return Accepted("read back", self._ms(started), tried.attempts, True)
            rounds.failed(tried.waits, causes)
            tried.waits.clear()
            timeout = min(timeout * 2, LONGEST_UPDATE)

    def _holds(self, wanted: Wanted) -> bool:
        """Was a doubtful update applied after all?"""
        return bool(self.read().agreeing(wanted))

    def read_back(
        self, wanted: Wanted, *, bound: float = CONSISTENCY, pause: float = 0.05
    ) -> Reading:
        """Reads until a quorum sees `wanted`, or `bound` seconds passed; the last reading."""
        end = self._clock() + bound
        while True:
            timeout = min(self._read_timeout, max(0.1, end - self._clock()))
            reading = self.start_read().finish(timeout, self.quorum, wanted)
            if len(reading.agreeing(wanted)) >= self.quorum or self._clock() + pause >= end:
                return reading
            self._sleep(pause)
            pause = min(pause * 1.5, 1.0)

    def _order(self, first: int) -> list[Endpoint]:
        """This run's random order, turned by `first`; those that answered lately come first."""
        fit = [e for e in self._shuffled if e.region in self._answered]
        rest = [e for e in self._shuffled if e.region not in self._answered]
        turn = first % len(fit) if fit else 0
        return fit[turn:] + fit[:turn] + rest

    def _pace(self, endpoint: Endpoint) -> None:
        """Keeps within the quota of mutating calls to one endpoint."""
        last = self._last_update.get(endpoint.url)
        if last is not None and (wait := last + SPACING - self._clock()) > 0:
            self._sleep(wait)
        self._last_update[endpoint.url] = self._clock()

    def _attempt(self, endpoint: Endpoint, wanted: Wanted, timeout: float) -> None:
        self._events.emit("arc.attempt", endpoint=endpoint.region, url=endpoint.url)
        try:
            bounded(lambda: self._transport.update_states(endpoint, wanted), timeout)
        except TooLate as late:
            raise EndpointFailed(str(late), ambiguous=True) from None

    def _say_failed(self, endpoint: Endpoint, failure: EndpointFailed) -> None:
        self._answered.discard(endpoint.region)
        self._events.emit(
            "arc.endpoint_failed",
            f"ARC endpoint {endpoint.region}: {failure.cause}; trying the next",
            endpoint=endpoint.region,
            cause=failure.cause,
            ambiguous=failure.ambiguous,
        )

    def _note_answers(self, reading: Reading) -> None:
        self._answered = set(reading.states)

    def _ms(self, started: float) -> int:
        return round((self._clock() - started) * 1000)


def _agrees(result: object, wanted: Wanted) -> bool:
    """Is `result` the answer of an endpoint that sees every control of `wanted` as wanted?"""
    if not isinstance(result, tuple):
        return False
    _, states = result
    return all(states.get(arn) == is_on for arn, is_on in wanted.items())


@dataclass(slots=True)
class _Tried:
    """What an update has met so far."""

    attempts: int = 0
    doubtful: bool = False
    """Some attempt may have been applied although it was not answered."""
    waits: list[float] = field(default_factory=list)
    """The Retry-After of this round, in seconds."""

    def note(self, failure: EndpointFailed) -> None:
        self.doubtful = self.doubtful or failure.ambiguous
        if failure.retry_after:
            self.waits.append(failure.retry_after)


class ReadRound:
    """One read of every endpoint, under way."""

    def __init__(
        self,
        endpoints: Sequence[Endpoint],
        transport: ArcTransport,
        clock: Callable[[], float],
        done: Callable[[Reading], None],
    ) -> None:
        self._regions = [e.region for e in endpoints]
        self._clock = clock
        self._started = clock()
        self._done = done
        self._calls = Batch({e.region: self._call(transport, e) for e in endpoints})

    def _call(
        self, transport: ArcTransport, endpoint: Endpoint
    ) -> Callable[[], tuple[int, dict[str, bool]]]:
        def call() -> tuple[int, dict[str, bool]]:
            states = transport.list_states(endpoint)
            return round((self._clock() - self._started) * 1000), states

        return call

    def finish(
        self,
        timeout: float,
        enough: int,
        wanted: Wanted | None = None,
        *,
        stragglers: bool = False,
    ) -> Reading:
        """The reading once `enough` endpoints have answered, or `timeout` seconds passed.

        With `wanted`, waits a little longer until `enough` of them see these states; with
        `stragglers`, until all have answered.
        """

        def answers(agreeing_with: Wanted) -> Callable[[Mapping[str, object]], bool]:
            def complete(results: Mapping[str, object]) -> bool:
                good = sum(_agrees(result, agreeing_with) for result in results.values())
                final = any(isinstance(r, FailoverError) for r in results.values())
                return good >= enough or final

            return complete

        results = self._calls.wait(timeout, answers({}))
        if wanted is not None:
            results = self._calls.wait(min(timeout, STRAGGLERS), answers(wanted))
        elif stragglers:
            results = self._calls.wait(min(timeout, STRAGGLERS))
        states, causes, ms = {}, {}, {}
        for region in self._regions:
            result = results.get(region)
            if isinstance(result, EndpointFailed):
                causes[region] = result.cause
            elif isinstance(result, Exception):
                raise result
            elif result is None:
                causes[region] = f"no answer within {self._clock() - self._started:.1f} s"
            else:
                ms[region], states[region] = result
        reading = Reading(states, causes, ms)
        self._done(reading)
        return reading


class _Rounds:
    """How long to go on asking all endpoints again."""

    def __init__(
        self, clock: Callable[[], float], sleep: Callable[[float], None], deadline: float
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._end = clock() + deadline
        self._pause = FIRST_PAUSE
        self._causes: dict[str, str] = {}

    def over(self) -> bool:
        return self._clock() >= self._end

    def left(self) -> float:
        """Seconds until the deadline, and never nothing at all."""
        return max(0.1, self._end - self._clock())

    def failed(self, waits: Sequence[float], causes: Mapping[str, str]) -> None:
        """A round found no endpoint: pauses before the next, or raises NoEndpointError.

        The pause is no shorter than the shortest Retry-After that was asked for.
        """
        self._causes.update(causes)
        pause = max(self._pause, min(waits, default=0.0))
        if self._clock() + pause >= self._end:
            raise NoEndpointError(
                "no endpoint of the recovery cluster could be reached:",
                [f"{region}: {cause}" for region, cause in self._causes.items()],
            )
        self._sleep(pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
