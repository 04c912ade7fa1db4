"""`lab`: both regions on this machine.

    lab up        start it, or what is missing of it; returns when everything answers
    lab down      stop it; returns when nothing of it is left
    lab status    what runs, what DNS answers, which faults are on
    lab fault     bad days on request (lab fault --help)

Exit codes: 0 done, 1 failed, 2 usage, 4 the lab is not in a state in which this can be done.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from infra.topology import TopologyError
from lab.errors import LabError, PreconditionError, UsageError
from lab.faults import ARC_FAULTS, DATABASE_FAULTS, REGION_FAULTS, Faults, FunctionFault
from lab.lifecycle import Lab, check_ports, claim
from lab.paths import LabPaths
from lab.settings import PROFILES, Network, Settings, adjusted
from lab.status import collect, render


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    lab = Lab(LabPaths(arguments.lab_dir), _say)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: cleaned up
    try:
        arguments.run(lab, arguments)
    except TopologyError as error:
        return _fail(str(error), UsageError.exit_code)
    except LabError as error:
        return _fail(str(error), error.exit_code)
    except OSError as error:
        return _fail(f"{error}; see the logs in {lab.paths.log}", LabError.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; what had been started was stopped", 130)
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"lab: {line}\n")
    sys.stdout.flush()


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"lab: {message}\n")
    return code


def _up(lab: Lab, arguments: argparse.Namespace) -> None:
    profile = adjusted(PROFILES[arguments.profile], arguments.set)
    network = pick_network(lab, arguments.network, arguments.topology)
    lab.up(arguments.topology, network, profile)


def pick_network(lab: Lab, prefix: str, topology: Path) -> Network:
    """The addresses asked for; `auto` is those of this lab if it is up, else any that are free."""
    if prefix != "auto":
        first, _, second = prefix.partition(".")
        if first != "127" or not second.isdigit() or int(second) > 255:
            raise UsageError(f"--network {prefix}: give 127.N with N from 0 to 255, or auto")
        return Network(prefix)
    if lab.paths.lab_json.exists():
        return Settings.load(lab.paths.settings).network
    for number in random.sample(range(1, 100), 50):
        network = Network(f"127.{number}")
        settings = Settings(network, PROFILES["fast"], "", ("a", "b"), str(topology))
        try:
            check_ports(settings, ["global", "a", "b"])
        except PreconditionError:
            continue
        if claim(network):
            return network
    raise PreconditionError("no free loopback network found among 50 tried")


def _down(lab: Lab, _: argparse.Namespace) -> None:
    lab.down()


def _status(lab: Lab, arguments: argparse.Namespace) -> None:
    status = collect(lab)
    text = json.dumps(status, indent=2) if arguments.json else render(status)
    sys.stdout.write(text + "\n")


def _fault(lab: Lab, arguments: argparse.Namespace) -> None:
    faults = Faults(lab)
    if arguments.kind == "region":
        faults.region(arguments.region, arguments.mode)
    elif arguments.kind == "arc":
        faults.arc(arguments.region, arguments.mode)
    elif arguments.kind == "apigateway":
        faults.apigateway(arguments.region, arguments.mode)
    elif arguments.kind == "cloudwatch":
        faults.cloudwatch(arguments.region, arguments.mode)
    elif arguments.kind == "database":
        faults.database(arguments.region, arguments.mode)
    elif arguments.kind == "replication":
        faults.replication(arguments.delay, arguments.cut)
    elif arguments.kind == "function":
        fault = FunctionFault(arguments.delay, arguments.error_rate, arguments.throttle)
        faults.function(arguments.service, arguments.region, fault)
    else:
        faults.clear()
    _say("done")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(lab_dir=Path(".lab"))
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--lab-dir", type=Path, default=Path(".lab"), help="default: .lab")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", parents=[common], help="start the lab")
    up.add_argument("--topology", type=Path, default=Path("topology.toml"))
    up.add_argument("--profile", choices=PROFILES, default="fast", help="timing (default: fast)")
    up.add_argument("--set", action="append", default=[], metavar="NAME=SECONDS",
                    help="change one timing of the profile; may be repeated")
    up.add_argument("--network", default="127.0", metavar="127.N|auto",
                    help="loopback addresses to use (default: 127.0)")
    up.set_defaults(run=_up)

    down = commands.add_parser("down", parents=[common], help="stop the lab")
    down.set_defaults(run=_down)

    status = commands.add_parser("status", parents=[common], help="what runs and how it is")
    status.add_argument("--json", action="store_true")
    status.set_defaults(run=_status)

    fault = commands.add_parser("fault", help="inject a fault, or take it back")
    kinds = fault.add_subparsers(required=True, dest="kind", metavar="KIND")
    region = kinds.add_parser("region", parents=[common], help="a whole region")
    region.add_argument("region")
    region.add_argument("mode", choices=REGION_FAULTS)
    arc = kinds.add_parser("arc", parents=[common], help="one ARC cluster endpoint")
    arc.add_argument("region")
    arc.add_argument("mode", choices=ARC_FAULTS)
    gateway = kinds.add_parser("apigateway", parents=[common], help="API Gateway's own health")
    gateway.add_argument("region")
    gateway.add_argument("mode", choices=("down", "up"))
    cloudwatch = kinds.add_parser("cloudwatch", parents=[common], help="CloudWatch in a region")
    cloudwatch.add_argument("region")
    cloudwatch.add_argument("mode", choices=("down", "up"))
    database = kinds.add_parser("database", parents=[common], help="one region's database server")
    database.add_argument("region")
    database.add_argument("mode", choices=DATABASE_FAULTS)
    replication = kinds.add_parser(
        "replication", parents=[common], help="between the two databases"
    )
    replication.add_argument("--delay", type=float, metavar="SECONDS", help="each way")
    replication.add_argument("--cut", action="store_true", default=None)
    replication.add_argument("--heal", dest="cut", action="store_false", default=None)
    function = kinds.add_parser("function", parents=[common], help="one function in one region")
    function.add_argument("service")
    function.add_argument("region")
    function.add_argument("--delay", type=float, default=0.0, metavar="SECONDS")
    function.add_argument("--error-rate", type=float, default=0.0, metavar="0..1")
    function.add_argument("--throttle", action="store_true")
    kinds.add_parser("clear", parents=[common], help="take every fault back")
    fault.set_defaults(run=_fault)
    return parser


if __name__ == "__main__":
    sys.exit(main())
