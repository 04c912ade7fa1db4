"""Load by Locust in a process of its own: plain FastHttpUser, or this repository's load test.

Downside: Locust takes a core of its own, so on two cores a figure is that of the chain on the other
one; a faster caller (see `two_hops`) shows more.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.labs import ROOT, RunningLab

WARM_UP = 1.5
"""Seconds that do not count: users and functions start."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests per second, and (of the plain users) latencies in milliseconds."""

    rate: float
    p50: float = float("nan")
    p99: float = float("nan")


def plain_users(
    url: str,
    host: str,
    paths: Sequence[str],
    *,
    users: int,
    seconds: float,
    keep_alive: bool = True,
) -> Load:
    """FastHttpUser on `url` (no name, no verification), naming `host`. SystemExit on a failure."""
    environment = os.environ | {
        "BENCH_PATHS": ",".join(paths),
        "BENCH_HOST": host,
        "BENCH_KEEP_ALIVE": "yes" if keep_alive else "no",
    }
    output = _locust(
        [
            *("-f", "bench/plain_users.py", "--users", str(users), "--spawn-rate", str(users)),
            *("--run-time", f"{round(seconds + WARM_UP)}s", "--host", url),
            *("--reset-stats", "--json", "--loglevel", "ERROR"),
        ],
        environment,
        seconds,
    )
    stats = json.loads(output)[0]
    if stats["num_failures"]:
        raise SystemExit(f"{url}: {stats['num_failures']} requests failed")
    taken = stats["last_request_timestamp"] - stats["start_time"]
    times = sorted(float(t) for t, count in stats["response_times"].items() for _ in range(count))
    cuts = statistics.quantiles(times, n=100)
    return Load(stats["num_requests"] / taken, cuts[49], cuts[98])


def load_test(lab: RunningLab, folder: Path, users: int, seconds: float) -> Load:
    """The repository's own load test, free-running, on every service through the external API."""
    report = folder / "load.json"
    _locust(
        [
            *("-f", "loadtest/locustfile.py", "--users", str(users), "--spawn-rate", str(users)),
            *("--run-time", f"{round(seconds + WARM_UP + 1)}s", "--report", str(report)),
            *("--only-summary", "--loglevel", "ERROR"),
        ],
        lab.environment(),
        seconds,
    )
    document = json.loads(report.read_text())
    for name, service in document["services"].items():
        if service["failed"] or not service["requests"]:
            raise SystemExit(f"{name}: {service['requests']} requests, {service['failed']} failed")
    counts: Counter[float] = Counter()
    for entry in document["timeline"]:
        counts[entry["at"]] += sum(r["count"] for r in entry["regions"].values())
    begun = min(counts) + WARM_UP
    whole = [count for at, count in counts.items() if begun <= at < begun + seconds]
    return Load(sum(whole) / seconds)


def _locust(arguments: Sequence[str], environment: Mapping[str, str], seconds: float) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "locust", "--headless", *arguments],
        cwd=ROOT,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=seconds + 40,
        check=False,
    )
    if done.returncode:
        said = done.stdout[-2000:] + done.stderr[-2000:]
        raise SystemExit(f"locust failed with exit code {done.returncode}:\n{said}")
    return done.stdout
