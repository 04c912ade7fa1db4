"""Between Locust and the record: arguments, the client of each user, counting, reporting.

One `Traffic` object lives in each process. It counts what the users of this process see; once a
second a worker hands its counts to the master (with Locust's own reports, and at the end with a
message of its own, for which the master waits), and the master or the only process writes the live
stream and the report.

The downside: a worker that is killed hard takes up to one second of counts with it. The report
says so under `workers`.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import gevent
import locust.runners
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from loadtest.client import Limits, TtlClientPool, TtlConnectionPool, tls_context
from loadtest.pacing import Pace
from loadtest.record import Record
from loadtest.report import report, second_events, summary, without_samples, write_json
from loadtest.resolver import (
    Resolver,
    literal_or,
    name_server_lookup,
    parse_name_servers,
    system_lookup,
)

log = logging.getLogger(__name__)

REPORT_INTERVAL = 1.0
"""Seconds between two lines of the live stream, and between two reports of a worker."""
LAST_COUNTS_TIMEOUT = 5.0
"""Seconds that the master waits for the last counts of its workers."""
EXIT_NO_SAMPLES = 3
"""Exit code when a service has no sample, whatever else happened."""
FINISH = "loadtest_finish"
LAST_COUNTS = "loadtest_last_counts"
ARGUMENTS = (
    "recovery_file",
    "nameserver",
    "ca_file",
    "rate",
    "connection_max_age",
    "resolve_interval",
    "connect_timeout",
    "read_timeout",
    "todo_writes_per_second",
    "todo_writers",
    "todo_write_share",
    "todo_deadline",
    "todo_pause",
    "ledger",
)


class Traffic:
    """What the load test knows in this process. `attach` ties it to Locust's events."""

    def __init__(self, regions: Sequence[str]) -> None:
        """`regions` are those of recovery.json, the primary first."""
        self.regions = tuple(regions)
        self.pending = Record()
        """Counted since the last cut."""
        self.total = Record()
        """All that was cut so far; on a worker only until it was sent."""
        self.pace = Pace(0.0, 1)
        self.users_with_own_pace = 0
        """So many of all users do not follow `--rate`. Set before a test starts."""
        self._environment: Environment | None = None
        self._limits = Limits()
        self._resolver: Resolver | None = None
        self._ssl_context: Any = None
        self._started_at: float | None = None
        self._finished = True
        self._events: TextIO | None = None
        self._workers_done: set[str] = set()

    # What users call

    def client_pool(self) -> TtlClientPool:
        """The `client_pool` of one user."""
        return TtlClientPool(self._connection_pool)

    def good(self, service: str, region: str) -> None:
        """Counts a good answer that is complete now."""
        self.pending.good(service, region, time.time())

    def failed(self, service: str, reason: str) -> None:
        """Counts a request that failed now."""
        self.pending.failed(service, reason, time.time())

    def mark(self, service: str, mark: str, reason: str = "") -> None:
        """Counts something that is no outcome of a request; one of `loadtest.record.MARKS`."""
        self.pending.mark(service, mark, time.time(), reason)

    def token_pool(self, limits: Limits) -> TtlClientPool:
        """A `client_pool` for token endpoints; its sockets are counted as `token_sockets`."""

        def connections(host: str, port: int, is_https: bool) -> TtlConnectionPool:
            return self._connection_pool(host, port, is_https, limits, "token_")

        return TtlClientPool(connections)

    def _connection_pool(
        self, host: str, port: int, is_https: bool, limits: Limits | None = None, group: str = ""
    ) -> TtlConnectionPool:
        if self._resolver is None:
            self._prepare()
        assert self._resolver is not None
        counters = self.pending.counters
        return TtlConnectionPool(
            host,
            port,
            self._resolver,
            limits or self._limits,
            self._ssl_context if is_https else None,
            counters[f"{group}sockets"],
            counters[f"{group}connections"],
        )

    def _prepare(self) -> None:
        options = self._options
        self._limits = Limits(
            options.connect_timeout, options.read_timeout, options.connection_max_age
        )
        lookup = (
            name_server_lookup(parse_name_servers(options.nameserver))
            if options.nameserver
            else system_lookup(options.resolve_interval)
        )
        self._resolver = Resolver(literal_or(lookup), self.pending.counters["resolver"])
        self._ssl_context = tls_context(options.ca_file)

    # Locust's events

    def attach(self, environment: Environment) -> None:
        """Called once per process, when Locust's environment and runner exist."""
        self._environment = environment
        events: Any = environment.events
        events.test_start.add_listener(self._on_test_start)
        events.spawning_complete.add_listener(self._on_spawning_complete)
        events.quitting.add_listener(self._on_quitting)
        runner = environment.runner
        locust.runners.WORKER_REPORT_INTERVAL = REPORT_INTERVAL
        if isinstance(runner, WorkerRunner):
            events.report_to_master.add_listener(self._on_report_to_master)
            events.test_stop.add_listener(self._send_last_counts)
            runner.register_message(FINISH, self._on_finish, concurrent=True)
            return
        if isinstance(runner, MasterRunner):
            events.worker_report.add_listener(self._on_worker_report)
            runner.register_message(LAST_COUNTS, self._on_last_counts)
            events.test_stopping.add_listener(self._await_last_counts)
        events.test_stop.add_listener(self._finish)

    @property
    def _options(self) -> Any:
        assert self._environment is not None
        return self._environment.parsed_options

    @property
    def _expected(self) -> list[str]:
        assert self._environment is not None
        return sorted(
            {cls.service for cls in self._environment.user_classes if hasattr(cls, "service")}
        )

    def _on_test_start(self, environment: Environment, **_: Any) -> None:
        runner = environment.runner
        assert runner is not None
        options = self._options
        if not isinstance(runner, WorkerRunner):
            # Set on the options because Locust hands them, and so this, to the workers.
            options.total_users = runner.target_user_count
        self.pace = Pace(options.rate, options.total_users - self.users_with_own_pace)
        self.pending.take()
        self.total = Record()
        self._resolver = None
        self._workers_done.clear()
        self._started_at = time.time()
        self._finished = False
        if not isinstance(runner, WorkerRunner):
            self._open_events()
            gevent.spawn(self._tick_until_finished, self._started_at)

    def _on_spawning_complete(self, user_count: int, **_: Any) -> None:
        self.pace.users = max(user_count - self.users_with_own_pace, 1)

    # Workers

    def _on_report_to_master(self, data: dict[str, Any], **_: Any) -> None:
        data["loadtest"] = self.pending.take().to_wire()

    def _on_finish(self, environment: Environment, **_: Any) -> None:
        assert environment.runner is not None
        environment.runner.stop()

    def _send_last_counts(self, environment: Environment, **_: Any) -> None:
        runner = environment.runner
        assert isinstance(runner, WorkerRunner)
        runner.send_message(LAST_COUNTS, {"loadtest": self.pending.take().to_wire()})

    # The master

    def _on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        if "loadtest" in data:
            self.pending.merge(Record.from_wire(data["loadtest"]))

    def _on_last_counts(self, msg: Any, **_: Any) -> None:
        self.pending.merge(Record.from_wire(msg.data["loadtest"]))
        self._workers_done.add(msg.node_id)

    def _await_last_counts(self, environment: Environment, **_: Any) -> None:
        """Ends the users of all workers and waits, for a bounded time, for their last counts."""
        runner = environment.runner
        assert isinstance(runner, MasterRunner)
        runner.send_message(FINISH)
        deadline = time.monotonic() + LAST_COUNTS_TIMEOUT
        while self._missing_workers(runner) and time.monotonic() < deadline:
            gevent.sleep(0.02)
        for worker in sorted(self._missing_workers(runner)):
            log.error("the last counts of worker %s are missing", worker)

    def _missing_workers(self, runner: MasterRunner) -> set[str]:
        return {client.id for client in runner.clients.all} - self._workers_done

    # The only process, or the master

    def _tick_until_finished(self, started_at: float) -> None:
        ticks = 0
        while not self._finished and self._started_at == started_at:
            self._cut()
            ticks += 1
            gevent.sleep(max(0.0, started_at + ticks * REPORT_INTERVAL - time.time()))

    def _cut(self) -> None:
        """Moves what was counted since the last cut to the total and to the live stream."""
        part = self.pending.take()
        self.total.merge(part)
        if self._events is not None:
            sockets = self.total.counters["sockets"]
            for line in second_events(part, time.time(), self._expected, sockets):
                self._write_event(line)

    def _open_events(self) -> None:
        if self._options.events:
            path = Path(self._options.events)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._events = path.open("w", encoding="utf-8", buffering=1)
            self._write_event({"kind": "started", "at": self._started_at})

    def _write_event(self, line: dict[str, Any]) -> None:
        if self._events is not None:
            self._events.write(json.dumps(line, separators=(",", ":")) + "\n")

    def _on_quitting(self, environment: Environment, **_: Any) -> None:
        """Ctrl-C comes here while the users still run; otherwise they were stopped before."""
        runner = environment.runner
        assert runner is not None
        if isinstance(runner, MasterRunner):
            runner.stop(send_stop_to_client=False)
        else:
            runner.stop()
        if isinstance(runner, WorkerRunner):
            return
        if self._started_at is None:
            self._finished = False
        self._finish()
        if without_samples(self._report()):
            environment.process_exit_code = EXIT_NO_SAMPLES

    def _finish(self, **_: Any) -> None:
        """Writes the report, once per test."""
        if self._finished:
            return
        self._finished = True
        self._cut()
        document = self._report()
        if self._options.report:
            write_json(self._options.report, document)
        if self._events is not None:
            self._write_event({"kind": "finished", "at": time.time()})
            self._events.close()
            self._events = None
        sys.stdout.write(summary(document))
        for service in without_samples(document):
            log.error("no sample of %s: nothing is known about it", service)

    def _report(self) -> dict[str, Any]:
        assert self._environment is not None
        options = self._options
        arguments = {name: getattr(options, name) for name in ARGUMENTS}
        arguments["users"] = self.pace.users + self.users_with_own_pace
        arguments["host"] = self._environment.host
        workers = None
        if isinstance(self._environment.runner, MasterRunner):
            missing = len(self._missing_workers(self._environment.runner))
            workers = {"reported": len(self._workers_done), "missing": missing}
        ended_at = time.time() if self._started_at is not None else None
        return report(
            self.total,
            self._expected,
            self.regions,
            self._started_at,
            ended_at,
            arguments,
            workers,
        )
