"""Locust's users of a service with a database that speaks the todo API.

Two classes per service: `…User` reads most of the time and follows `--rate` like everybody else;
`…Writer` only writes, at a rate of its own (`--todo-writes-per-second`, by `--todo-writers` users).
Both keep the ledger (`--ledger`) that `loadtest.ledger` compares with the database after a move.

A read counts as any other request: good or failed, with no second attempt. A write counts once, by
its outcome: good when it was acknowledged, however many attempts that took, and failed when it was
not within `--todo-deadline`. What happened in between is kept as marks (see `loadtest.record`):
attempts refused because writes were stopped, and attempts that failed in another way.

A row that is not as it was acknowledged is neither good nor failed, but marked `contradicted`: an
unplanned move may lose writes, and it is the ledger's check that counts what was lost.

In Locust's statistics a write is one request, from its first attempt to its acknowledgement.
"""

from __future__ import annotations

import argparse
import random
import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from locust import task
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest.answer import REGION_HEADER, BadAnswer
from loadtest.errors import InputError
from loadtest.operations import ACKNOWLEDGED, CONTRADICTED, Author, Ledger, Operation
from loadtest.pacing import Pace, Timetable
from loadtest.record import CONTRADICTED as CONTRADICTED_MARK
from loadtest.record import WRITES
from loadtest.sender import Answer, Sender
from loadtest.tokens import Client, Tokens, asker, load_clients
from loadtest.traffic import Traffic
from loadtest.users import ApiUser
from loadtest.writes import Patience, Send, Writer, authorized

LIST = "/todos?page_size=20"
UNAUTHORIZED, NOT_FOUND = 401, 404


def add_arguments(parser: Any) -> None:
    """The arguments for services with a database."""
    parser.add_argument(
        "--tokens-file",
        default="",
        env_var="TOKENS_FILE",
        include_in_web_ui=False,
        help="JSON file of clients. Without it services with a database are left out.",
    )
    parser.add_argument(
        "--todo-writes-per-second",
        type=float,
        default=10.0,
        help="Writes per second of all write-heavy users together; 0: there are none.",
    )
    parser.add_argument(
        "--todo-writers", type=int, default=4, help="Users that do nothing but write."
    )
    parser.add_argument(
        "--todo-write-share",
        type=float,
        default=0.1,
        help="Share of writes among the requests of the read-mostly users.",
    )
    parser.add_argument(
        "--todo-deadline",
        type=float,
        default=30.0,
        help="Seconds for which a write is tried again until it counts as failed.",
    )
    parser.add_argument(
        "--todo-pause",
        type=float,
        default=0.05,
        help="Longest pause in seconds between two attempts, also when Retry-After asks for more.",
    )
    parser.add_argument(
        "--ledger",
        default="",
        include_in_web_ui=False,
        help="Write what was acknowledged here; worker 3 writes to NAME.3.jsonl beside it.",
    )


class Writing:
    """What the todo users of this process share: tokens, pace, ledger."""

    def __init__(self, traffic: Traffic, regions: tuple[str, ...]) -> None:
        self.pace = Pace(0.0, 1)
        self.patience = Patience()
        self.write_share = 0.0
        self._traffic = traffic
        self._regions = regions
        self._ledger: Ledger | None = None
        self._tokens: dict[str, Tokens] = {}
        self._turns = count()

    def attach(self, environment: Environment) -> None:
        """Called once per process, before `Traffic.attach`. Raises `InputError`."""
        events: Any = environment.events
        events.test_start.add_listener(self._on_test_start)
        options: Any = environment.parsed_options
        if not isinstance(environment.runner, WorkerRunner):
            self._choose_classes(environment, options)

    def _choose_classes(self, environment: Environment, options: argparse.Namespace) -> None:
        """Locust hands out users by class; those that cannot work must not get any."""
        if any(issubclass(cls, TodoUser) for cls in environment.user_classes):
            if options.tokens_file:
                load_clients(options.tokens_file, self._regions)
            writers = options.todo_writers if options.todo_writes_per_second > 0 else 0
            kept: list[Any] = []
            for cls in environment.user_classes:
                if issubclass(cls, TodoWriter):
                    cls.fixed_count = writers
                if not issubclass(cls, TodoUser) or (
                    options.tokens_file and (writers or not issubclass(cls, TodoWriter))
                ):
                    kept.append(cls)
            if not kept:
                raise InputError(["the clients are missing: --tokens-file or TOKENS_FILE"])
            environment.user_classes[:] = kept

    def _on_test_start(self, environment: Environment, **_: Any) -> None:
        options: Any = environment.parsed_options
        runner = environment.runner
        assert runner is not None
        if not options.tokens_file:
            return
        total = getattr(runner, "target_user_count", 0) or 1
        if isinstance(runner, WorkerRunner):
            total = options.total_users
        services = {cls.service for cls in environment.user_classes if issubclass(cls, TodoWriter)}
        writers = min(options.todo_writers * len(services), total)
        self.pace = Pace(options.todo_writes_per_second, writers)
        self._traffic.users_with_own_pace = writers
        self.patience = Patience(options.todo_deadline, options.todo_pause)
        self.write_share = options.todo_write_share
        # Made when the first user asks: by then the traffic's own preparations are done.
        self._tokens = {}
        self._clients = load_clients(options.tokens_file, self._regions)
        self._open_ledger(options.ledger, runner)

    def _open_ledger(self, path: str, runner: Any) -> None:
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None
        if not path:
            return
        file = Path(path)
        if isinstance(runner, WorkerRunner):
            self._ledger = Ledger(file.with_suffix(f".{runner.worker_index}{file.suffix}"))
            return
        # Those of an earlier run would be taken for parts of this one. Workers start after this.
        for old in file.parent.glob(f"{file.stem}.*{file.suffix}"):
            if old.name[len(file.stem) + 1 : -len(file.suffix)].isdigit():
                old.unlink()
        self._ledger = Ledger(file)

    def tenant(self) -> str:
        """The tenant of the next user: they take turns."""
        tenants = sorted(self._clients)
        return tenants[next(self._turns) % len(tenants)]

    def tokens(self, tenant: str) -> Tokens:
        if tenant not in self._tokens:
            clients: tuple[Client, ...] = self._clients[tenant]
            counters = self._traffic.pending.counters["tokens"]
            self._tokens[tenant] = Tokens(clients, asker(self._traffic.token_pool), counters)
        return self._tokens[tenant]

    def write_down(self, operation: Operation) -> None:
        if self._ledger is not None:
            self._ledger.append(operation)


class TodoUser(ApiUser):
    """Reads most of the time. Works on rows of its own, one write after the other."""

    abstract = True
    writing: Writing

    def on_start(self) -> None:
        tenant = self.writing.tenant()
        api = Sender(self._clients, f"{(self.host or '').rstrip('/')}/{self.service}")
        self._send: Send = authorized(api, self.writing.tokens(tenant))
        self._author = Author(secrets.token_hex(6), tenant, random.Random())  # noqa: S311
        self._writer = Writer(self._send, self.writing.patience, self._attempt, gevent.sleep)
        super().on_start()

    @task
    def step(self) -> None:
        if random.random() < self._write_share():  # noqa: S311
            self.write()
        else:
            self.read()

    def _write_share(self) -> float:
        return self.writing.write_share

    def write(self) -> None:
        """One create, update or delete, until it is acknowledged."""
        began = time.perf_counter()
        operation = replace(self._author.next(), first_sent_at=time.time())
        self.writing.write_down(operation)
        outcome = self._writer.carry_out(operation)
        self.writing.write_down(outcome)
        self._author.done(outcome)
        failure = ""
        if outcome.state == ACKNOWLEDGED:
            self.traffic.mark(self.service, WRITES)
            self.traffic.good(self.service, outcome.region)
        elif outcome.state == CONTRADICTED:
            self.traffic.mark(self.service, CONTRADICTED_MARK, f"{outcome.op}: {outcome.reason}")
        else:
            failure = f"{outcome.op} not acknowledged: {outcome.reason}"
            self.traffic.failed(self.service, failure)
        name = outcome.region or ("failed" if failure else outcome.state)
        self._report(outcome.op, name, began, failure)

    def read(self) -> None:
        """The first page, or one of the rows that this user wrote."""
        began = time.perf_counter()
        ids = self._author.ids
        row_id = random.choice([*ids, ""]) if ids else ""  # noqa: S311
        path = f"/todos/{row_id}" if row_id else LIST
        answer = self._send("GET", path, {}, b"")
        if answer.status == UNAUTHORIZED:
            answer = self._send("GET", path, {}, b"")
        region = answer.headers.get(REGION_HEADER.lower(), "")
        if row_id and region and answer.status == NOT_FOUND:
            self.traffic.mark(self.service, CONTRADICTED_MARK, "read: HTTP 404")
            self._report("read", CONTRADICTED, began)
            return
        failure = why_not(answer, row_id, self.regions)
        if failure:
            self.traffic.failed(self.service, failure)
        else:
            self.traffic.good(self.service, region)
        self._report("read", "failed" if failure else region, began, failure, len(answer.body))

    def _attempt(self, kind: str, reason: str) -> None:
        self.traffic.mark(self.service, kind, reason)

    def _report(self, what: str, name: str, began: float, failure: str = "", size: int = 0) -> None:
        """Tells Locust."""
        self.environment.events.request.fire(
            request_type=what,
            name=f"{self.service} [{name}]",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=size,
            exception=BadAnswer(failure) if failure else None,
            context={},
        )


class TodoWriter(TodoUser):
    """Writes only, at a pace of its own."""

    abstract = True
    suffix = "Writer"

    def on_start(self) -> None:
        self._timetable = Timetable(self.writing.pace)
        super().on_start()

    def _write_share(self) -> float:
        return 1.0


def todo_classes(writing: Writing) -> tuple[type[ApiUser], ...]:
    """The classes for `USER_CLASSES`, tied to this process."""
    shared: Mapping[str, Any] = {"abstract": True, "writing": writing}
    return tuple(type(cls.__name__, (cls,), dict(shared)) for cls in (TodoUser, TodoWriter))


def why_not(answer: Answer, row_id: str, regions: tuple[str, ...]) -> str:
    """Why an answer to a read is not a good one; empty when it is."""
    if answer.status != 200:
        return answer.reason or f"HTTP {answer.status}"
    if answer.headers.get(REGION_HEADER.lower()) not in regions:
        return "200 without a known region in X-Region"
    document = answer.document()
    if row_id:
        return "" if document.get("id") == row_id else "200 with another row"
    return "" if isinstance(document.get("items"), list) else "200 without items"
