"""What a hundred more services cost: lab start, DNS answers, memory; 103 services beside 3.

    python -m bench.scale [--extra 100] [--rounds 2]

The extra services share service1's code, as services without code of their own may; all else is
their own: control panel, controls, rules, health checks, records, domains, API, functions. Starts
of the small and the large lab alternate, packages are there already, and the fastest of each
counts, since whatever else the machine does only slows one down. For the same reason the DNS
figures are the best of short rounds that alternate between both labs, running side by side; a
pipelined client asks each for all of its services.

Downside: a lab's name server shares its process with the ARC cluster, as it does in every lab.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.labs import STATELESS, Memory, RunningLab, running_lab, write_topology
from bench.nameserver import GOAL_SERVICES, answers_per_second
from bench.table import Result, at_most, ratio_at_least, report

SECONDS_PER_20 = 1.0
DNS_ROUNDS = 4
DNS_SECONDS = 0.25
"""Of one round."""


@dataclass(frozen=True, slots=True)
class Measured:
    start: float
    """Seconds."""
    answers: float
    """Per second."""
    memory: Memory


def measure_both(folder: Path, few: Path, many: Path, build: Path) -> tuple[Measured, Measured]:
    """A lab of each topology; the large one is started while the small one idles."""
    with running_lab(folder / "few", few, build) as small:
        small_memory = small.memory()  # now, because what two labs share would count half
        with running_lab(folder / "many", many, build) as large:
            large_memory = large.memory()
            rounds = [(dns_rate(small), dns_rate(large)) for _ in range(DNS_ROUNDS)]
            answers = tuple(map(max, zip(*rounds, strict=True)))
            return (
                Measured(small.seconds, answers[0], small_memory),
                Measured(large.seconds, answers[1], large_memory),
            )


def dns_rate(lab: RunningLab) -> float:
    names = [service["host"] for service in lab.recovery["services"].values()]
    return answers_per_second(lab.name_server, DNS_SECONDS, names)


def best(rounds: Iterable[Measured]) -> Measured:
    made = list(rounds)
    return Measured(min(m.start for m in made), max(m.answers for m in made), made[-1].memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch, build = Path(name), Path(name) / "build"
        few = write_topology(scratch / "topology-few")
        many = write_topology(scratch / "topology-many", extra=given.extra)
        with running_lab(scratch / "packaging", few, build):
            pass
        rounds = [
            measure_both(scratch / f"round-{number}", few, many, build)
            for number in range(given.rounds)
        ]
    small, large = (best(measured) for measured in zip(*rounds, strict=True))
    return conclude(small, large, given.extra)


def conclude(small: Measured, large: Measured, extra: int) -> int:
    few, many = f"{len(STATELESS)} services", f"{len(STATELESS) + extra} services"
    per_20 = (large.start - small.start) / extra * 20
    per_service = (large.memory.pss - small.memory.pss) / extra
    processes = f"{large.memory.processes} / {small.memory.processes} processes"
    dns = ratio_at_least(GOAL_SERVICES)
    return report(
        [
            Result(f"start, {many}", large.start, "s", few, small.start),
            Result("start, each 20 services more", per_20, "s", target=at_most(SECONDS_PER_20)),
            Result(f"DNS answers, {many}", large.answers, "/s", few, small.answers, dns),
            Result(f"idle, PSS, {processes}", large.memory.pss, "MiB", few, small.memory.pss),
            Result("idle, each service more", per_service, "MiB"),
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
