"""Shell commands of workflows and builds, taken apart and held against the real parsers.

Only what those scripts use is understood: simple commands in lines, `&&`, `|` and redirections,
`$VARIABLE` in quotes. Anything else fails, so that a script does not escape by being clever.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from failover.cli import build_parser as failover_parser
from infra.cli import _parser as infra_parser
from lab.cli import _parser as lab_parser

ROOT = Path(__file__).parents[2]
PARSERS: Mapping[str, Callable[[], argparse.ArgumentParser]] = {
    "failover": failover_parser,
    "infra": infra_parser,
    "lab": lab_parser,
}
_SEPARATORS = ("&&", "|", ";")
_REDIRECTIONS = (">", ">>")
_CLEVER = re.compile(r"\$\(|`|\$\{|\beval\b")
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def commands_of(script: str, variables: Mapping[str, str]) -> Iterator[list[str]]:
    """The words of each command, variables replaced. Raises AssertionError for what is not
    understood, and KeyError for a variable that is not given."""
    assert not _CLEVER.search(script), script
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for token in [*lexer, ";"]:
            if token in _SEPARATORS:
                if words:
                    yield without_redirections(words)
                words = []
            else:
                words.append(re.sub(r"\$(\w+)", lambda found: variables[found[1]], token))


def without_redirections(words: Sequence[str]) -> list[str]:
    found = list(words)
    for sign in _REDIRECTIONS:
        while sign in found:
            at = found.index(sign)
            del found[at : at + 2]
    return found


def parsed(words: Sequence[str]) -> argparse.Namespace | None:
    """Raises AssertionError or SystemExit if there is no such command, or not with these words.
    What a program of ours would see is returned."""
    program, arguments = words[0].removeprefix(".venv/bin/"), list(words[1:])
    if program in PARSERS:
        return PARSERS[program]().parse_args(arguments)
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(arguments) <= set(targets), words
    elif program == "./setup.sh":
        assert arguments, words
        assert set(arguments) <= GROUPS.keys(), words
    elif program in ("python", "python3", "pip"):
        _python(program, arguments)
    elif "/" in program:
        assert os.access(ROOT / program, os.X_OK), words
    else:
        assert program in ("echo", "printf", "tee", "test"), words
    return None


def _python(program: str, arguments: Sequence[str]) -> None:
    files = [a for a in arguments if a.endswith((".py", ".txt"))]
    assert all((ROOT / name).is_file() for name in files), arguments
    if program == "pip":
        assert arguments[0] == "install", arguments
