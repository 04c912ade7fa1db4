"""Locust's users of the external API: one class per service, made from recovery.json.

A service is asked at `/<service>/` on the external API. The name of each request in Locust's
statistics carries the region that answered, so the web UI shows a move as it happens.

A service whose entry has a `database` cannot be driven by a user that only reads a stateless page:
the classes for it are in `loadtest.todo`.
"""

from __future__ import annotations

import re
from typing import Any

import gevent
from locust import FastHttpUser, task
from locust.contrib.fasthttp import ResponseContextManager
from locust.env import Environment

from loadtest.answer import REGION_HEADER, BadAnswer, answering_region
from loadtest.client import failure_reason
from loadtest.pacing import Timetable
from loadtest.recovery import Recovery, Service
from loadtest.traffic import Traffic


class ApiUser(FastHttpUser):
    """Base of all users: the TTL-honouring client, the pace, and the counting."""

    abstract = True
    insecure = False
    max_redirects = 0
    suffix = "User"
    """Ends the name of the class that is made for a service."""
    service: str
    """Name of the service, as in recovery.json."""
    regions: tuple[str, ...]
    traffic: Traffic

    def __init__(self, environment: Environment) -> None:
        self._clients = self.client_pool = self.traffic.client_pool()
        super().__init__(environment)
        # The API sets no cookies, and a cookie jar costs more than the rest of the client.
        self.client.client.cookiejar = None
        self._timetable = Timetable(self.traffic.pace)

    def on_start(self) -> None:
        gevent.sleep(self._timetable.first_wait())

    def wait_time(self) -> float:
        return self._timetable.next_wait()

    def on_stop(self) -> None:
        self._clients.close()

    def count(self, response: Any, region: str | BadAnswer) -> None:
        """Counts one request as good or failed, in Locust's statistics and in the record.

        `response` is that of a request made with `catch_response`.
        """
        meta: dict[str, Any] = response.request_meta
        if isinstance(region, BadAnswer):
            meta["name"] = f"{self.service} [failed]"
            response.failure(str(region))
            self.traffic.failed(self.service, str(region))
        else:
            meta["name"] = f"{self.service} [{region}]"
            response.success()
            self.traffic.good(self.service, region)


class StatelessUser(ApiUser):
    """Reads the page of one stateless service."""

    abstract = True

    @task
    def read(self) -> None:
        with self.client.get(f"/{self.service}/", catch_response=True) as response:
            self.count(response, self._region_of(response))

    def _region_of(self, response: ResponseContextManager) -> str | BadAnswer:
        error = response.request_meta["exception"]
        if error is not None:
            return BadAnswer(failure_reason(error))
        assert response.headers is not None
        header = response.headers.get(REGION_HEADER)
        try:
            return answering_region(
                self.service,
                self.regions,
                response.status_code,
                header if isinstance(header, str) else None,
                response.content or b"",
            )
        except BadAnswer as bad:
            return bad


USER_CLASSES: dict[str, tuple[type[ApiUser], ...]] = {"stateless": (StatelessUser,)}
"""The user classes for each kind of service; `database` is the kind of one that has a database."""


def kind_of(service: Service) -> str:
    return "database" if service.has_database else "stateless"


def user_classes(recovery: Recovery, traffic: Traffic, host: str) -> dict[str, type[ApiUser]]:
    """Class name → class, one per service that has a kind in `USER_CLASSES`.

    `host` is the URL of the external API, used unless Locust is given another.
    """
    classes: dict[str, type[ApiUser]] = {}
    for service in recovery.services:
        name = "".join(part.capitalize() for part in re.split(r"[^0-9a-zA-Z]+", service.name))
        for base in USER_CLASSES.get(kind_of(service), ()):
            classes[name + base.suffix] = type(
                name + base.suffix,
                (base,),
                {
                    "abstract": False,
                    "service": service.name,
                    "regions": recovery.regions,
                    "traffic": traffic,
                    "host": host or None,
                    "__doc__": f"Asks {service.name}.",
                },
            )
    return classes
