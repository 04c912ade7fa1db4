"""`infra`: from `topology.toml` to two serving regions on AWS, and back.

    infra stacks [--json]        the steps in order, with regions and parameters
    infra template NAME          a template as it is deployed, for example `gateway`
    infra plan [--live|--drift]  what would be created and what it costs; --live: what would change
    infra deploy                 everything, in order; again after an interruption continues
    infra verify REGION          asks every service at its pinned name in that region
    infra configure              each stage's part of the services' config.json, in this checkout
    infra export                 recovery.json, and the primaries switched On
    infra destroy                everything back to nothing, after showing what will be lost

The first two and `plan` read files only; `verify` asks DNS and the services. None of these needs an
AWS account. Exit codes: 0 done, 1 something failed (the message ends with the next command), 2 the
command line, the topology or a template cannot be used, 3 `destroy` has shown what it would do, 130
interrupted.

Downside: parameters that come from outputs are shown as references; their values exist only once
something has been deployed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from infra.stacks import OutputRef, Stack, Step, Text, Value, WiringError, stack_list
from infra.templates import TEMPLATES, TemplateFileError, template
from infra.topology import Topology, TopologyError, load_topology
from infra.verifying import add_arguments as add_verify
from infra.verifying import verify

INTERRUPTED = 130


class UnknownRegionError(Exception):
    """The command names a region that is not the topology's."""


def main(
    argv: Sequence[str] | None = None,
    session: Callable[[argparse.Namespace, Topology], Any] | None = None,
) -> int:
    """Runs one command; returns the exit code. `session` replaces what speaks to AWS, in tests."""
    options = _parser().parse_args(argv)
    try:
        topology = load_topology(options.topology)
        _check_region(options, topology)
        if options.command == "stacks":
            steps = stack_list(topology)
            text = _json(steps) if options.json else _table(steps)
        elif options.command == "verify":
            return verify(options, topology)
        elif options.command == "template":
            rendered = template(f"{options.name.removesuffix('.yaml')}.yaml", topology)
            text = json.dumps(rendered, indent=2)
        else:
            return _against_aws(options, topology, session)
    except TopologyError as error:
        sys.stderr.write(f"{error}\n  next: correct {options.topology}, then the same command\n")
        return 2
    except (TemplateFileError, UnknownRegionError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(text + "\n")
    return 0


def _check_region(options: argparse.Namespace, topology: Topology) -> None:
    """Raises UnknownRegionError if the command is for a region that the topology does not have."""
    region = getattr(options, "only_region", "") or getattr(options, "region", "")
    if region and region not in topology.regions:
        known = ", ".join(topology.regions)
        raise UnknownRegionError(f"{region} is no region of {options.topology}; known are {known}")


def _against_aws(
    options: argparse.Namespace,
    topology: Topology,
    session: Callable[[argparse.Namespace, Topology], Any] | None,
) -> int:
    # boto3 takes half a second to import, which `stacks` and `template` need not pay.
    from infra.commands import COMMANDS
    from infra.configure import ConfigureError
    from infra.errors import DeployError
    from infra.recovery import RecoveryError

    try:
        return COMMANDS[options.command]((session or _session)(options, topology))
    except KeyboardInterrupt:
        sys.stderr.write(
            "interrupted; AWS goes on with what it has begun. The same command again continues.\n"
        )
        return INTERRUPTED
    except RecoveryError as error:
        sys.stderr.write(f"{error}\n  next: infra deploy\n")
    except (DeployError, ConfigureError, WiringError) as error:
        sys.stderr.write(f"{error}\n")
    return 1


def _session(options: argparse.Namespace, topology: Topology) -> Any:
    import threading

    from infra.clients import AwsClients
    from infra.commands import Session, pace_of

    stopping = threading.Event()
    pace = pace_of(stopping, options.poll)
    return Session(options, topology, AwsClients(options.profile), pace, stopping)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="infra", description="What a deployment consists of.")
    parser.add_argument("--topology", type=Path, default=Path("topology.toml"), metavar="FILE")
    parser.add_argument("--profile", metavar="NAME", help="profile of the AWS credentials")
    parser.add_argument(
        "--poll",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="how often AWS is asked how far a stack is (default 5)",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    stacks = commands.add_parser("stacks", help="the steps in order, with their parameters")
    stacks.add_argument("--json", action="store_true", help="for a program to read")
    shown = commands.add_parser("template", help="a template as it is deployed, as JSON")
    names = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.yaml")))
    shown.add_argument("name", help=f"one of {names}")
    _add_deployment(commands)
    _add_destroy(commands)
    add_verify(commands.add_parser("verify", help="ask every service at its name in a region"))
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 600:
        raise ValueError(text)
    return seconds


def _add_deployment(commands: Any) -> None:
    zone = "id of the domain's public hosted zone, when it exists already"
    plan = commands.add_parser("plan", help="what would be created, and what it costs")
    plan.add_argument("--json", action="store_true", help="for a program to read (not with --live)")
    plan.add_argument("--live", action="store_true", help="ask AWS what would change")
    plan.add_argument("--drift", action="store_true", help="--live, and the database's drift")
    plan.add_argument("--hosted-zone", metavar="ID", help=zone)
    deploy = commands.add_parser("deploy", help="deploy everything, or continue")
    deploy.add_argument("--hosted-zone", metavar="ID", help=zone)
    deploy.add_argument(
        "--recreate-failed",
        action="store_true",
        help="delete stacks whose creation was rolled back, and create them again",
    )
    deploy.add_argument(
        "--allow-replacement",
        metavar="STEP",
        action="append",
        default=[],
        help="let this step replace or remove what serves traffic (never a database)",
    )
    deploy.add_argument(
        "--role-arn",
        metavar="ARN",
        default="",
        help="service role with which CloudFormation makes what is in the stacks",
    )
    deploy.add_argument(
        "--only-region",
        metavar="REGION",
        default="",
        help="what this region needs, and nothing that the other one uses",
    )
    commands.add_parser("configure", help="write the services' config.json from what is deployed")
    export = commands.add_parser("export", help="write recovery.json and switch the primaries On")
    export.add_argument("--file", type=Path, default=Path("recovery.json"), metavar="FILE")


def _add_destroy(commands: Any) -> None:
    destroy = commands.add_parser("destroy", help="delete everything, after showing what is lost")
    destroy.add_argument("--confirm", metavar="CODE", default="", help="the code that it showed")
    destroy.add_argument(
        "--remove-deletion-protection", action="store_true", help="needed with a database"
    )
    destroy.add_argument(
        "--final-snapshot", action="store_true", help="the database leaves a last snapshot"
    )
    destroy.add_argument(
        "--leftovers", action="store_true", help="only what topology.toml no longer declares"
    )
    destroy.add_argument("--keep-zone", action="store_true", help="leave the hosted zone")


def _table(steps: Sequence[Step]) -> str:
    lines = []
    for number, step in enumerate(steps, 1):
        what = step.template if isinstance(step, Stack) else f"chalice deploy, {step.folder}"
        lines.append(f"{number:4}  {step.name}  ({step.region}: {what})")
        lines += [f"        {name} = {_text(value)}" for name, value in step.values.items()]
        if step.needs:
            lines.append(f"        after {', '.join(step.needs)}")
    return "\n".join(lines)


def _text(value: Value) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, Text):
        return "".join(map(_text, value.parts))
    return f"<{value.stack}.{value.output}>" if isinstance(value, OutputRef) else value


def _json(steps: Sequence[Step]) -> str:
    return json.dumps([_plain(step) for step in steps], indent=2)


def _plain(step: Step) -> dict[str, Any]:
    what = {"template": step.template} if isinstance(step, Stack) else {"folder": step.folder}
    return {
        "name": step.name,
        "region": step.region,
        **what,
        "values": {name: _text(value) for name, value in step.values.items()},
        "needs": list(step.needs),
    }
