"""A steady stream of writes without Locust, and the gap that its client saw.

    python -m loadtest.writer --rate 100 --seconds 20 --ledger reports/ledger.jsonl --json gap.json

Creates, updates and deletes to-dos through the external API as in `loadtest.writes`: every
operation is tried until it is acknowledged. It ends after `--seconds` or at SIGINT or SIGTERM, then
waits for the operations under way, and prints one JSON document (also to `--json`):

- `write_gap_seconds`: the longest time between two consecutive acknowledgements of the whole run,
  and `gaps`, the longest five with their beginning (seconds since the epoch);
- `operations` by outcome, `attempts` by kind and reason, `regions` by acknowledgements.

Exit code 0: every operation was acknowledged; 1: one was not, or there was none; 2: unusable input.

The rate is kept by `--workers` greenlets with a timetable each. A greenlet that waits for an answer
sends nothing else, so during a gap fewer writes are begun than asked for.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import gevent
from gevent.event import Event

from loadtest.client import Limits
from loadtest.errors import InputError
from loadtest.operations import ACKNOWLEDGED, Author, Ledger, Operation
from loadtest.pacing import Pace, Timetable
from loadtest.report import write_json
from loadtest.sender import Network, add_arguments
from loadtest.tokens import Client, Tokens, asker, load_clients
from loadtest.writes import Patience, Writer, authorized

EXIT_USAGE = 2
LONGEST = 5


class Stream:
    """The writers of one run and what they saw."""

    def __init__(
        self,
        network: Network,
        clients: dict[str, Sequence[Client]],
        rate: float,
        workers: int,
        patience: Patience,
        ledger: Ledger | None,
    ) -> None:
        self._network = network
        self._pace = Pace(rate, workers)
        self._patience = patience
        self._ledger = ledger
        self._counters: Counter[str] = Counter()
        ask = asker(network.pool)
        self._tokens = {name: Tokens(own, ask, self._counters) for name, own in clients.items()}
        self._stopped = Event()
        self._acked_at: list[float] = []
        self._outcomes: Counter[str] = Counter()
        self._attempts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._regions: Counter[str] = Counter()

    def run(self, seconds: float | None) -> dict[str, Any]:
        """Writes for `seconds` (None: until `stop`) and returns the document described above."""
        started_at = time.time()
        tenants = sorted(self._tokens)
        greenlets = [
            gevent.spawn(self._work, tenants[number % len(tenants)])
            for number in range(self._pace.users)
        ]
        for greenlet in greenlets:
            greenlet.link_exception(lambda _: self.stop())
        self._stopped.wait(seconds)
        self._stopped.set()
        gevent.joinall(greenlets, raise_error=True)
        return self._document(started_at, time.time())

    def stop(self) -> None:
        self._stopped.set()

    def _work(self, tenant: str) -> None:
        send = authorized(self._network.api(), self._tokens[tenant])
        writer = Writer(send, self._patience, self._attempt, gevent.sleep)
        author = Author(secrets.token_hex(6), tenant, random.Random())  # noqa: S311
        timetable = Timetable(self._pace)
        if self._stopped.wait(timetable.first_wait()):
            return
        while True:
            operation = replace(author.next(), first_sent_at=time.time())
            self._write_down(operation)
            outcome = writer.carry_out(operation)
            self._write_down(outcome)
            self._count(outcome)
            author.done(outcome)
            if self._stopped.wait(timetable.next_wait()):
                return

    def _write_down(self, operation: Operation) -> None:
        if self._ledger is not None:
            self._ledger.append(operation)

    def _attempt(self, kind: str, reason: str) -> None:
        self._attempts[kind] += 1
        self._reasons[f"{kind}: {reason}"] += 1

    def _count(self, outcome: Operation) -> None:
        self._outcomes[outcome.state] += 1
        if outcome.acked_at is not None:
            self._acked_at.append(outcome.acked_at)
            self._regions[outcome.region] += 1
        else:
            self._reasons[f"{outcome.state}: {outcome.reason}"] += 1

    def _document(self, started_at: float, ended_at: float) -> dict[str, Any]:
        found = gaps(self._acked_at)
        seconds = ended_at - started_at
        return {
            "version": 1,
            "started_at": started_at,
            "ended_at": ended_at,
            "operations": dict(self._outcomes),
            "attempts": dict(self._attempts),
            "reasons": dict(self._reasons),
            "regions": dict(self._regions),
            "write_gap_seconds": found[0]["seconds"] if found else None,
            "gaps": found[:LONGEST],
            "acknowledged_per_second": round(len(self._acked_at) / seconds, 3) if seconds else 0.0,
            "tokens": dict(self._counters),
            "sockets": dict(self._network.counters["sockets"]),
        }


def gaps(acked_at: Sequence[float]) -> list[dict[str, float]]:
    """The times between consecutive acknowledgements, the longest first."""
    found = [
        {"at": before, "seconds": round(after - before, 6)}
        for before, after in pairwise(sorted(acked_at))
    ]
    return sorted(found, key=lambda gap: -gap["seconds"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        limits = Limits(options.connect_timeout, options.read_timeout)
        network = Network(options, limits)
        if not options.tokens_file:
            raise InputError(["the clients are missing: --tokens-file or TOKENS_FILE"])
        clients = load_clients(options.tokens_file)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    ledger = Ledger(options.ledger) if options.ledger else None
    patience = Patience(options.deadline, options.pause)
    stream = Stream(network, dict(clients), options.rate, options.workers, patience, ledger)
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, stream.stop)
    document = stream.run(options.seconds or None)
    if ledger is not None:
        ledger.close()
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
    if options.json:
        write_json(options.json, document)
    return 0 if set(document["operations"]) == {ACKNOWLEDGED} else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.writer", description="Writes steadily and measures the gap."
    )
    add_arguments(parser)
    parser.add_argument("--rate", type=float, default=100.0, help="writes per second (%(default)s)")
    parser.add_argument(
        "--workers", type=int, default=16, help="at most so many writes at once (%(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="0: until it is told to stop")
    parser.add_argument("--ledger", default="", help="write what was acknowledged here, anew")
    parser.add_argument("--json", default="", help="write the numbers here, too")
    parser.add_argument(
        "--deadline", type=float, default=30.0, help="seconds for one operation (%(default)s)"
    )
    parser.add_argument(
        "--pause", type=float, default=0.05, help="longest pause between attempts (%(default)s s)"
    )
    parser.add_argument("--connect-timeout", type=float, default=3.0, help="seconds (%(default)s)")
    parser.add_argument("--read-timeout", type=float, default=10.0, help="seconds (%(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
