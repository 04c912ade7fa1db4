"""How long the lab takes to answer, and what it weighs idle, beside `chalice local`.

    python -m bench.lab_start [--rounds 3]

Timed is the command `lab up`, from its start to its end: then every service has answered in both
regions. Packages are there already, but for one line that shows a first start. The slowest round
counts. The peer, measured in turn with it, is the same three services under `chalice local`: one
region, three processes, no gateway, no TLS, no DNS, no failover.

Memory is that of all processes of the lab and their children, from /proc/*/smaps_rollup, when
everything has answered once and nothing is asked any more. If the repository's topology has more
services, a lab of all of them is measured too (a service with a database brings two servers), and
is held to the same targets.

Downside: page cache and bytecode caches are warm after the first start, as on a developer's second
start of the day.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from bench.labs import ROOT, STATELESS, Memory, memory_of, running_lab, write_topology
from bench.local_servers import chalice_local
from bench.table import Result, at_most, report
from infra.topology import load_topology

START_LIMIT = 8.0
"""Seconds."""
MEMORY_LIMIT = 600.0
"""MiB of PSS."""
PEER = "chalice local, one region"


def lab_once(folder: Path, topology: Path, build: Path) -> tuple[float, Memory]:
    """Seconds to the answers, and the idle memory."""
    with running_lab(folder, topology, build) as lab:
        return lab.seconds, lab.memory()


def local_once() -> tuple[float, Memory]:
    with chalice_local(STATELESS) as servers:
        return servers.seconds, memory_of(servers.pids)


def everything(scratch: Path, build: Path) -> list[Result]:
    """The lab of the repository's own topology, if it has more than the three services."""
    topology = ROOT / "topology.toml"
    services = load_topology(topology).services
    if set(services) <= set(STATELESS):
        return []
    for attempt in ("first", "second"):  # the first packages
        seconds, memory = lab_once(scratch / f"all-{attempt}", topology, build)
    name = f"lab up with {', '.join(sorted(services))}"
    return [
        Result(name, seconds, "s", target=at_most(START_LIMIT)),
        Result(
            f"its idle memory, PSS of {memory.processes} processes",
            memory.pss,
            "MiB",
            target=at_most(MEMORY_LIMIT),
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        topology = write_topology(scratch / "three")
        build = scratch / "build"
        first, _ = lab_once(scratch / "first", topology, build)
        ours, theirs = [], []
        for number in range(rounds):
            ours.append(lab_once(scratch / f"round-{number}", topology, build))
            theirs.append(local_once())
        whole = everything(scratch, build)
    seconds, peer_seconds = (max(s for s, _ in measured) for measured in (ours, theirs))
    memory, peer_memory = ours[-1][1], theirs[-1][1]
    idle = f"idle memory, PSS of {memory.processes} processes"
    return report(
        [
            Result("lab up, two regions", seconds, "s", PEER, peer_seconds, at_most(START_LIMIT)),
            Result("lab up, packaging too", first, "s", PEER, peer_seconds),
            Result(idle, memory.pss, "MiB", PEER, peer_memory.pss, at_most(MEMORY_LIMIT)),
            Result("the same, RSS", memory.rss, "MiB", PEER, peer_memory.rss),
            *whole,
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
