"""All to-dos of a tenant, read from the API that serves them now, page by page.

Rows that are there during the whole reading are all found, because pages follow ids and an id never
changes. Rows that come, go or change meanwhile may be found in either state; who compares must
know when the reading began and ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from loadtest.errors import InputError, LoadTestError
from loadtest.sender import Answer
from loadtest.writes import Send

PAGE_SIZE = 100
DEADLINE = 60.0
PAUSE = 0.2


class ReadingFailed(LoadTestError):
    """The rows could not be read; nothing is known about them."""


@dataclass(frozen=True, slots=True)
class Row:
    """One to-do as the database has it."""

    tenant: str
    id: str
    task: str
    status: str
    revision: str
    region: str = ""


def read_rows(
    send: Send,
    tenant: str,
    sleep: Callable[[float], None],
    deadline: float = DEADLINE,
    clock: Callable[[], float] = time.monotonic,
) -> list[Row]:
    """All rows of the tenant whose token `send` uses. Raises `ReadingFailed` after `deadline`
    seconds, or at once when the answer is a refusal."""
    give_up_at = clock() + deadline
    rows: list[Row] = []
    page = f"/todos?page_size={PAGE_SIZE}"
    token = ""
    while True:
        path = page + (f"&page_token={quote(token, safe='')}" if token else "")
        answer = send("GET", path, {}, b"")
        if answer.status != 200 or "items" not in answer.document():
            if 400 <= answer.status < 500 and answer.status not in (401, 429):
                raise ReadingFailed(f"GET /todos: HTTP {answer.status}")
            if clock() >= give_up_at:
                raise ReadingFailed(f"GET /todos: {_why(answer)} for {deadline:g} s")
            sleep(PAUSE)
            continue
        document = answer.document()
        rows.extend(_row(tenant, item) for item in document["items"])
        token = document.get("next_page_token", "")
        if not token:
            return rows


def load_rows(path: str | Path) -> list[Row]:
    """Rows from a file of JSON lines with `tenant`, `id`, `task`, `status`, `revision`.

    Raises `InputError` naming every fault.
    """
    problems = []
    rows = []
    for number, document in enumerate(json_lines(path), 1):
        try:
            rows.append(_row(document["tenant"], document))
        except (KeyError, TypeError) as error:
            problems.append(f"{path}, line {number}: {error!r}")
    if problems:
        raise InputError(problems)
    return rows


def json_lines(path: str | Path) -> list[Any]:
    """The documents of a file of JSON lines. Raises `InputError`."""
    try:
        return list(_parsed(Path(path).read_text(encoding="utf-8").splitlines()))
    except OSError as error:
        raise InputError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise InputError([f"{path}: not JSON lines: {error}"]) from error


def _parsed(lines: Iterable[str]) -> Iterable[Any]:
    return (json.loads(line) for line in lines if line.strip())


def _row(tenant: str, item: Any) -> Row:
    return Row(
        tenant, item["id"], item["task"], item["status"], item["revision"], item.get("region", "")
    )


def _why(answer: Answer) -> str:
    return answer.reason or f"HTTP {answer.status}"
