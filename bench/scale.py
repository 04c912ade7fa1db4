"""What a hundred more services cost: lab start, DNS answers, memory; 103 services beside 3.

    python -m bench.scale [--extra 100] [--rounds 2]

The extra services share service1's code, as services without code of their own may; all else is
their own: control panel, controls, rules, health checks, records, domains, API, functions. Starts
of the small and the large lab alternate and the fastest of each counts, since whatever else the
machine does only slows one down. Both have their packages already. DNS answers are those of the
running labs, to a pipelined client that asks for every service.

Downside: a lab's name server shares its process with the ARC cluster, as it does in every lab.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.labs import STATELESS, Memory, RunningLab, running_lab, write_topology
from bench.nameserver import GOAL_SERVICES, answers_per_second
from bench.table import Result, at_most, ratio_at_least, report

SECONDS_PER_20 = 1.0
DNS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    start: float
    """Seconds."""
    answers: float
    """Per second."""
    memory: Memory


def measure(folder: Path, topology: Path, build: Path) -> Measured:
    with running_lab(folder, topology, build) as lab:
        memory = lab.memory()
        return Measured(lab.seconds, best_dns_rate(lab), memory)


def best_dns_rate(lab: RunningLab) -> float:
    services = lab.recovery["services"]
    names = [service["host"] for service in services.values()]
    return max(answers_per_second(lab.name_server, DNS_SECONDS / 2, names) for _ in range(2))


def best(rounds: list[Measured]) -> Measured:
    return Measured(min(r.start for r in rounds), max(r.answers for r in rounds), rounds[-1].memory)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--extra", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    few, many = "3 services", f"{len(STATELESS) + given.extra} services"
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        topologies = {
            few: write_topology(scratch / "few"),
            many: write_topology(scratch / "many", extra=given.extra),
        }
        rounds: dict[str, list[Measured]] = {few: [], many: []}
        measure(scratch / "packaging", topologies[few], scratch / "build")
        for number in range(given.rounds):
            for which, topology in topologies.items():
                folder = scratch / f"{number}-{len(rounds[which])}-{which[0]}"
                rounds[which].append(measure(folder, topology, scratch / "build"))
    return conclude(few, best(rounds[few]), many, best(rounds[many]), given.extra)


def conclude(few: str, small: Measured, many: str, large: Measured, extra: int) -> int:
    per_20 = (large.start - small.start) / extra * 20
    idle = f"idle memory, PSS ({large.memory.processes} / {small.memory.processes} processes)"
    per_service = (large.memory.pss - small.memory.pss) / extra
    return report(
        [
            Result(f"start, {many}", large.start, "s", few, small.start),
            Result("start, each 20 services more", per_20, "s", target=at_most(SECONDS_PER_20)),
            Result(
                f"DNS answers, {many}", large.answers, "/s", few, small.answers,
                ratio_at_least(GOAL_SERVICES),
            ),
            Result(idle, large.memory.pss, "MiB", few, small.memory.pss),
            Result("idle memory, each service more", per_service, "MiB"),
        ]
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
