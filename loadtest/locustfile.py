"""Locust traffic through the external API, to every service at once.

    locust -f loadtest/locustfile.py --headless --users 30 --rate 100 --run-time 60s \
        --report reports/load.json

The services come from recovery.json, which is read when this file is imported: Locust wants its
user classes before it parses the command line. Everything else is in the modules beside this one.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import Any

from locust import events
from locust.env import Environment
from locust.runners import WorkerRunner

from loadtest import todo
from loadtest.errors import InputError
from loadtest.recovery import Recovery, load
from loadtest.traffic import Traffic
from loadtest.users import USER_CLASSES, user_classes

EXIT_USAGE = 2
log = logging.getLogger("loadtest")


def _recovery() -> Recovery:
    """Reads the file named on the command line or in RECOVERY_FILE; ends the process if it cannot.

    Locust does not import a locustfile for `--help`, so that works without the file.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recovery-file", default=os.environ.get("RECOVERY_FILE", "recovery.json"))
    arguments, _ = parser.parse_known_args()
    try:
        return load(arguments.recovery_file)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_USAGE)


recovery = _recovery()
traffic = Traffic(recovery.regions)
writing = todo.Writing(traffic, recovery.regions)
USER_CLASSES["database"] = todo.todo_classes(writing)
api_url = os.environ.get("API_URL") or (f"https://{recovery.api_host}" if recovery.api_host else "")
# Locust takes the user classes from the names of this module.
globals().update(user_classes(recovery, traffic, api_url))


def add_arguments(parser: Any) -> None:
    """The load test's own arguments; each can also be set in the environment."""
    parser.add_argument(
        "--recovery-file",
        default="recovery.json",
        env_var="RECOVERY_FILE",
        include_in_web_ui=False,
        help="The file that names services and regions.",
    )
    parser.add_argument(
        "--nameserver",
        default=",".join(recovery.name_servers),
        env_var="NAMESERVER",
        help="host:port of the name servers to ask, comma-separated, honouring the TTL of their "
        "answers. Without any the system resolver is asked. Default: those of recovery.json.",
    )
    parser.add_argument(
        "--resolve-interval",
        type=float,
        default=5.0,
        help="Seconds for which an answer of the system resolver, which tells no TTL, is used.",
    )
    parser.add_argument(
        "--ca-file",
        default=recovery.ca_file,
        env_var="CA_FILE",
        include_in_web_ui=False,
        help="Certificate authority to trust instead of the system's. Default: recovery.json's.",
    )
    parser.add_argument(
        "--rate",
        type=float,
        default=0.0,
        help="Requests per second of all users together, evenly paced; 0: as fast as possible.",
    )
    parser.add_argument(
        "--connection-max-age",
        type=float,
        default=30.0,
        help="Seconds after which a connection takes no further request; 0: one request each.",
    )
    parser.add_argument(
        "--connect-timeout", type=float, default=3.0, help="Seconds for TCP and for TLS."
    )
    parser.add_argument(
        "--read-timeout", type=float, default=10.0, help="Seconds to wait for data."
    )
    parser.add_argument(
        "--report", default="", include_in_web_ui=False, help="Write the JSON report here."
    )
    parser.add_argument(
        "--events",
        default="",
        include_in_web_ui=False,
        help="Write one JSON line per second here, while the test runs.",
    )
    todo.add_arguments(parser)


def attach(environment: Environment, **_: Any) -> None:
    """Locust is set up in this process: start counting."""
    try:
        writing.attach(environment)
    except InputError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(EXIT_USAGE)
    traffic.attach(environment)
    options: Any = environment.parsed_options
    databases = [service.name for service in recovery.services if service.has_database]
    if databases and not options.tokens_file and not isinstance(environment.runner, WorkerRunner):
        log.warning("no traffic for %s: there is no --tokens-file", ", ".join(databases))


hooks: Any = events
hooks.init_command_line_parser.add_listener(add_arguments)
hooks.init.add_listener(attach)
