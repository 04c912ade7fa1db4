"""A locustfile: FastHttpUser as it is, asking BENCH_PATHS in turn. `bench.locusts` runs it."""

from __future__ import annotations

import itertools
import os

from locust import FastHttpUser, task

PATHS = itertools.cycle(os.environ["BENCH_PATHS"].split(","))
HEADERS = {"Host": os.environ["BENCH_HOST"]}
if os.environ["BENCH_KEEP_ALIVE"] == "no":
    HEADERS["Connection"] = "close"


class Caller(FastHttpUser):
    @task
    def call(self) -> None:
        self.client.get(next(PATHS), headers=HEADERS, name="all")
