"""The steps of a database, in front of its routing controls and behind them.

    look-again     everything is as planned, and every connection that is needed is open
    drain          planned: writes end in the old region       unplanned: best effort, 1.5 s
    promote        RDS makes the target the writer
    open-fence     a write through the target; from now on everybody's
    (the four routing controls, in one update; or the take-over alarm)
    see-writable   the target says that it writes
    after-loss     unplanned: where the lost rows are and how to go back

Nothing slow stands between `drain` and the update: that is the time in which nobody can write. The
price is `look-again`, which asks everything once more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from failover.database import Fence, GlobalCluster
from failover.database_plan import Mode, other_operation
from failover.database_work import Work
from failover.errors import FailoverError, PreconditionError
from failover.ports import EndpointFailed
from failover.steps import Check, Run, Step
from failover.together import Batch, TooLate, bounded

LOOK_SECONDS = 4.0
"""Seconds for `look-again`."""
SEEN_SECONDS = 5.0
"""Seconds in which the target must say that it writes, once it has taken a write."""


def before_update(work: Work) -> list[Step]:
    return [LookAgain(work), Drain(work), Promote(work), OpenFence(work)]


def after_update(work: Work) -> list[Step]:
    steps: list[Step] = [SeeWritable(work)]
    return [*steps, AfterLoss(work)] if work.mode is Mode.UNPLANNED else steps


@dataclass(frozen=True, slots=True)
class _OfOne:
    """What every step of one database has in common."""

    work: Work

    @property
    def services(self) -> tuple[str, ...]:
        return (self.work.name,)

    @property
    def changes(self) -> bool:
        return True

    def check(self, run: Run) -> Check:
        return Check.TO_DO if run.live(self.services) else Check.ALREADY_DONE


@dataclass(frozen=True, slots=True)
class LookAgain(_OfOne):
    """The plan may be minutes old when it is confirmed; and connections want to be open before
    writes are stopped."""

    @property
    def name(self) -> str:
        return "look-again"

    @property
    def changes(self) -> bool:
        return False

    def describe(self) -> str:
        return f"look at the database of {self.work.name} again"

    def act(self, run: Run) -> None:
        """Looking changes nothing."""

    def observe(self, run: Run) -> None:
        work = self.work
        seen = Batch(self._tasks(run)).wait(LOOK_SECONDS, self._enough)
        clusters = _values(seen, "global", GlobalCluster)
        fences: dict[str, Fence] = _values(seen, "fence", Fence)
        if clusters:
            work.note_cluster(clusters.get(work.target) or next(iter(clusters.values())))
        work.note_fences(fences)
        if work.cluster is None:
            causes = [str(seen.get(("global", r), "no answer in time")) for r in work.regions()]
            raise PreconditionError(f"{work.name}: RDS does not answer:", causes)
        other = other_operation(work.cluster, work.database, work.target)
        if other is not None:
            raise PreconditionError(f"{work.name}: {other}")
        if work.mode is Mode.PLANNED and not (work.is_promoted() or work.is_moving()):
            missing = [
                f"the fence cannot be read in {r}: {seen.get(('fence', r), 'no answer in time')}"
                for r in (str(work.writer), work.target)
                if r not in fences
            ]
            if missing:
                raise PreconditionError(f"{work.name}: nothing was changed:", missing)

    def _tasks(self, run: Run) -> dict[tuple[str, str], Callable[[], object]]:
        work = self.work
        tasks: dict[tuple[str, str], Callable[[], object]] = {}
        if work.service.has_arc:
            tasks["arc", ""] = lambda: run.cluster.read(timeout=LOOK_SECONDS)
        for region in work.database.clusters:
            tasks["global", region] = partial(
                work.rds.global_cluster, region, work.database.global_cluster
            )
            tasks["fence", region] = partial(
                work.operator.fence, work.service, region, LOOK_SECONDS
            )
        return tasks

    def _enough(self, seen: Any) -> bool:
        """Of a region that is being given up nothing is waited for."""
        needed = {("global", self.work.target), ("fence", self.work.target)}
        if self.work.service.has_arc:
            needed.add(("arc", ""))
        return self.work.mode is Mode.UNPLANNED and needed <= seen.keys()


@dataclass(frozen=True, slots=True)
class Drain(_OfOne):
    """No write is taken in the region that is the writer now."""

    @property
    def name(self) -> str:
        return "drain"

    def describe(self) -> str:
        return f"stop the writes of {self.work.name} in {self.work.writer}"

    def check(self, run: Run) -> Check:
        work = self.work
        fence = work.fence()
        over = work.is_promoted() or work.is_moving()
        if over or (fence is not None and not fence.is_open_in(str(work.writer))):
            return Check.ALREADY_DONE
        return _OfOne.check(self, run)

    def act(self, run: Run) -> None:
        work = self.work
        if work.mode is Mode.UNPLANNED:
            work.drain_old_region(run)
            return
        run.timeline(work.name).database["drain_ms"] = run.events.now_ms()
        work.drain(run)
        fence = work.fence()
        event = run.events.emit(
            "database.drained",
            f"{work.name}: no writes in {work.writer} any more",
            service=work.name,
            region=work.writer,
            epoch=fence.epoch if fence else None,
        )
        run.timeline(work.name).database["drained_ms"] = event.ms

    def observe(self, run: Run) -> None:
        """The route returns when it is so."""


@dataclass(frozen=True, slots=True)
class Promote(_OfOne):
    """RDS says that the target is the writer."""

    @property
    def name(self) -> str:
        return "promote"

    def describe(self) -> str:
        return f"make {self.work.target} the writer of {self.work.name} ({self.work.mode.value})"

    def check(self, run: Run) -> Check:
        return Check.ALREADY_DONE if self.work.is_promoted() else _OfOne.check(self, run)

    def act(self, run: Run) -> None:
        if self.work.is_moving():
            run.events.emit(
                "database.resumed", f"{self.work.name}: RDS is already at it; waiting for it"
            )
        self.work.start(run)

    def observe(self, run: Run) -> None:
        work = self.work
        work.await_writer(run, run.options.database_wait)
        run.changed.add(work.name)
        event = run.events.emit(
            "database.promoted",
            f"{work.name}: {work.target} is the writer",
            service=work.name,
            region=work.target,
        )
        run.timeline(work.name).database["promoted_ms"] = event.ms


@dataclass(frozen=True, slots=True)
class OpenFence(_OfOne):
    """The fence is open in the target: a committed write through all that users' writes take.

    Asked for even where the fence is open already, because only then has this run seen a write.
    """

    @property
    def name(self) -> str:
        return "open-fence"

    def describe(self) -> str:
        return f"open the writes of {self.work.name} in {self.work.target}"

    def act(self, run: Run) -> None:
        work = self.work
        fence = work.open_fence(run)
        event = run.events.emit(
            "database.fence_open",
            f"{work.name}: {work.target} has taken a write ({fence.describe()})",
            service=work.name,
            region=work.target,
            epoch=fence.epoch,
        )
        run.timeline(work.name).database["fence_open_ms"] = event.ms

    def observe(self, run: Run) -> None:
        """The answer was the proof."""


@dataclass(frozen=True, slots=True)
class SeeWritable(_OfOne):
    """The target itself says that it takes writes, and that the fence is its own."""

    @property
    def name(self) -> str:
        return "see-writable"

    @property
    def changes(self) -> bool:
        return False

    def describe(self) -> str:
        return f"see that {self.work.target} writes"

    def act(self, run: Run) -> None:
        """Looking changes nothing."""

    def observe(self, run: Run) -> None:
        work = self.work
        end = work.clock() + SEEN_SECONDS
        pause = 0.05
        while True:
            try:
                depth = work.operator.depth(work.service, work.target, SEEN_SECONDS)
            except (EndpointFailed, FailoverError) as error:
                last = str(error)
            else:
                if depth.writable and depth.fence and depth.fence.is_open_in(work.target):
                    run.events.emit(
                        "database.writable",
                        f"{work.name}: {work.target} says that it writes",
                        service=work.name,
                    )
                    return
                last = depth.fence.describe() if depth.fence else "; ".join(depth.problems)
            if work.clock() + pause >= end:
                run.unconfirmed[work.name] = f"{work.target} does not say that it writes: {last}"
                return
            run.sleep(pause)
            pause = min(pause * 2, 1.0)


@dataclass(frozen=True, slots=True)
class AfterLoss(_OfOne):
    """Says what an operator has to know after a failover that may have lost rows."""

    @property
    def name(self) -> str:
        return "after-loss"

    @property
    def changes(self) -> bool:
        return False

    def describe(self) -> str:
        return f"say where the lost rows of {self.work.name} are"

    def act(self, run: Run) -> None:
        """Looking changes nothing."""

    def observe(self, run: Run) -> None:
        work = self.work
        for region in work.database.clusters:
            if region != work.target:
                run.notes += notes_after_loss(work, region)


def notes_after_loss(work: Work, region: str) -> list[str]:
    """How to find what `region` had not replicated, and how to go back there."""
    arn = work.database.clusters[region]
    found = kept_snapshots(work, region)
    if found:
        kept = f"the volume that {region} had is kept as snapshot {found[0]} there"
    else:
        look = (
            f"aws rds describe-db-cluster-snapshots --region {region} "
            f"--db-cluster-identifier {arn} --snapshot-type automated"
        )
        kept = (
            f"when {region} is back, RDS keeps its old volume there as a snapshot whose name "
            f"begins with rds:unplanned-global-failover-; look with: {look}"
        )
    return [
        f"{work.name}: what had not been replicated is not in {work.target}; {kept}",
        f"{work.name}: to go back when {region} is a replica again: "
        f"failover back {work.name} --to {region} --wait-for-replica 3600",
    ]


def kept_snapshots(work: Work, region: str) -> tuple[str, ...]:
    """Not asked of a region that could not be told to stop writes: it would not answer either."""
    if not work.old_region_answers:
        return ()
    try:
        return bounded(lambda: work.rds.snapshots(region, work.database.clusters[region]), 1.5)
    except (EndpointFailed, FailoverError, TooLate):
        return ()


def _values(seen: Any, what: str, kind: type) -> dict[str, Any]:
    """region → value of that kind; a fault of ours is raised."""
    for result in seen.values():
        expected = isinstance(result, EndpointFailed | FailoverError)
        if isinstance(result, Exception) and not expected:
            raise result
    return {r: v for (w, r), v in seen.items() if w == what and isinstance(v, kind)}
