"""The command line: parses, asks, and passes on. Decisions are made elsewhere.

Nothing heavy is imported at the top, so that `--help` and a mistyped name answer at once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from failover.errors import EXIT_CODES, INTERRUPTED, FailoverError, UsageError

DESCRIPTION = """\
Moves services between regions by ARC routing controls or by CloudWatch alarms, whichever each has
in recovery.json, with data-plane calls only, and their databases by the RDS API of the region that
is left. A service that moves by itself is held, or given back. It needs recovery.json, AWS
credentials and a network; for a service with a database also OPERATOR_CLIENT_SECRET."""

EPILOG = "exit codes:\n" + "\n".join(f"  {code:>3}  {text}" for code, text in EXIT_CODES.items())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    options = build_parser().parse_args(argv)
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return run(options, words)
    except FailoverError as error:
        say_error(str(error))
        if options.json:
            document = {
                "version": 1,
                "command": words,
                "status": "not started",
                "reasons": [str(error)],
                "exit_code": error.exit_code,
            }
            sys.stdout.write(json.dumps(document, indent=1) + "\n")
        return error.exit_code
    except KeyboardInterrupt:
        say_error("interrupted; nothing was changed")
        return INTERRUPTED


def run(options: argparse.Namespace, words: Sequence[str]) -> int:
    from failover import recovery

    known = recovery.load(options.recovery_file)
    from failover import commands

    if options.command == "status":
        return commands.status(known, options, words)
    return commands.change(known, options, words)


def build_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="failover",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    status = _command(commands, "status", "show where every service is, and whether all agree")
    status.add_argument("services", nargs="*", metavar="SERVICE", help="default: all")
    status.add_argument(
        "--check", action="store_true", help="exit 4 when something is not as it should be"
    )
    move = _command(
        commands, "move", "send the traffic of services to a region; hold there what moves itself"
    )
    move.add_argument("services", nargs="+", metavar="SERVICE", help="`api` is one, too")
    move.add_argument("--to", required=True, metavar="REGION", dest="target")
    evacuate = _command(commands, "evacuate", "send everything that a region serves elsewhere")
    evacuate.add_argument("region", metavar="REGION")
    evacuate.add_argument(
        "--to", metavar="REGION", dest="target", help="needed only with more than two regions"
    )
    back = _command(commands, "back", "go back after an unplanned failover, when it loses nothing")
    back.add_argument("services", nargs="+", metavar="SERVICE")
    back.add_argument(
        "--to", metavar="REGION", dest="target", help="default: the primary, the file's first"
    )
    back.add_argument(
        "--wait-for-replica",
        type=_long_seconds,
        default=0.0,
        metavar="SECONDS",
        help="for the old region to become a healthy replica again (default: 0)",
    )
    for losing in (move, evacuate):
        losing.add_argument(
            "--allow-data-loss",
            action="store_true",
            help="move databases without their old region, and lose what it had not replicated",
        )
    for changing in (move, evacuate, back):
        _changing_options(changing)
    return parser


def _command(commands: argparse._SubParsersAction[_Parser], name: str, text: str) -> _Parser:
    parser = commands.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--recovery-file",
        type=Path,
        default=Path(os.environ.get("RECOVERY_FILE") or "recovery.json"),
        metavar="FILE",
        help="default: $RECOVERY_FILE, else ./recovery.json",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout, progress on stderr"
    )
    # Asked for alike everywhere, so that a script may pass them to any command.
    parser.add_argument("--yes", action="store_true", help="do not ask before changing anything")
    parser.add_argument("--dry-run", action="store_true", help="show the plan and change nothing")
    return parser


def _changing_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--journal-dir",
        type=Path,
        default=Path("journal"),
        metavar="DIR",
        help="where the record of this run is written (default: ./journal)",
    )
    parser.add_argument(
        "--deadline",
        type=_seconds,
        default=15.0,
        metavar="SECONDS",
        help="for reaching any cluster endpoint, or CloudWatch of a region (default: 15)",
    )
    parser.add_argument(
        "--wait",
        type=_seconds,
        default=90.0,
        metavar="SECONDS",
        help="for the target to be seen from outside (default: 90)",
    )
    parser.add_argument(
        "--alarm-wait",
        type=_seconds,
        default=180.0,
        metavar="SECONDS",
        help="for a take-over alarm to stand as published (default: 180)",
    )
    parser.add_argument(
        "--database-wait",
        type=_long_seconds,
        default=900.0,
        metavar="SECONDS",
        help="for RDS to make another region the writer (default: 900)",
    )
    parser.add_argument(
        "--without-target-probe",
        action="store_true",
        help="send traffic even to a region that does not answer this machine's probe",
    )


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("give seconds, above 0 and up to 3600")
    return value


def _long_seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError("give seconds, up to 86400")
    return value


class _Parser(argparse.ArgumentParser):
    """Says how to get help, and exits 2, as argparse does; without the long usage text."""

    def error(self, message: str) -> NoReturn:
        self.exit(UsageError.exit_code, f"{self.prog}: {message}\ntry: {self.prog} --help\n")


def say_error(text: str) -> None:
    sys.stderr.write(f"failover: {text}\n")
