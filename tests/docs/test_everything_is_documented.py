"""What a user can set or type is on the page where it is looked for.

Commands and options come from the parsers themselves, environment variables and the options of
programs without a parser to import from the syntax tree, so that a new one without a word about it
fails here. Downside: it is checked that a name is mentioned, not that what is said of it is true.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from docs_support import ROOT, all_prose, fenced, name, pages, project_files

from failover.cli import build_parser as failover_parser
from infra.cli import _parser as infra_parser
from infra.topology import Options, Service
from lab.cli import _parser as lab_parser
from lab.settings import PROFILES, Profile

_ENVIRONMENT = re.compile(r"(os\.)?(environ|environment|getenv)")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]+")
_NOT_OURS = {"PATH"}


def sources(*folders: str) -> Iterator[Path]:
    for path in project_files():
        at = name(path)
        if path.suffix == ".py" and at.startswith(folders) and "/testing/" not in at:
            yield path


# ---- commands and options


def commands(parser: argparse.ArgumentParser, so_far: str) -> Iterator[str]:
    """`lab fault region` and so on: every command that has options or arguments of its own."""
    nested = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not nested:
        yield so_far
    for action in nested:
        for word, below in action.choices.items():
            yield from commands(below, f"{so_far} {word}")


def options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from options(below)
        elif action.help is not argparse.SUPPRESS:
            yield from (o for o in action.option_strings if o.startswith("--") and o != "--help")


PROGRAMS = [
    ("lab", lab_parser(), "docs/lab.md"),
    ("failover", failover_parser(), "docs/runbook.md"),
    ("infra", infra_parser(), "docs/infra.md"),
]


@pytest.mark.parametrize(("program", "parser", "page"), PROGRAMS, ids=[p for p, *_ in PROGRAMS])
def test_every_command_and_option_is_on_its_page(
    program: str, parser: argparse.ArgumentParser, page: str
) -> None:
    text = (ROOT / page).read_text()
    known = list(commands(parser, program))
    assert known
    assert not [command for command in known if command not in text]
    assert not sorted({option for option in options(parser) if not mentions(text, option)})


OTHERS = {
    "docs/load.md": ("loadtest/",),
    "docs/lab.md": ("lab/demo/", "lab/aurora/"),
}


@pytest.mark.parametrize("page", OTHERS)
def test_every_option_of_other_programs_is_on_its_page(page: str) -> None:
    text = (ROOT / page).read_text()
    trees = [ast.parse(path.read_text()) for path in sources(*OTHERS[page])]
    wanted = {option for tree in trees for option in added_options(tree)}
    assert wanted
    assert not sorted(option for option in wanted if not mentions(text, option))


def added_options(tree: ast.AST) -> Iterator[str]:
    """The literals of `add_argument("--…")`, but for suppressed ones."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        hidden = any(k.arg == "help" and "SUPPRESS" in ast.unparse(k.value) for k in node.keywords)
        if node.func.attr == "add_argument" and not hidden:
            given = [a.value for a in node.args if isinstance(a, ast.Constant)]
            yield from (o for o in given if isinstance(o, str) and o.startswith("--"))


def mentions(text: str, word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) is not None


# ---- environment variables


def variables_read(tree: ast.Module) -> Iterator[str]:
    """Names in `environ["X"]`, `environ.get("X")`, `"X" in environ`, `env_var="X"`, `required("X")`

    A constant of the module counts as its value.
    """
    constants = {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        for found in names_in(node):
            value = constants.get(found.id) if isinstance(found, ast.Name) else None
            value = found.value if isinstance(found, ast.Constant) else value
            if isinstance(value, str) and _VARIABLE.fullmatch(value) and value not in _NOT_OURS:
                yield value


def names_in(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Subscript) and _ENVIRONMENT.fullmatch(ast.unparse(node.value)):
        yield node.slice
    elif isinstance(node, ast.Compare) and _ENVIRONMENT.fullmatch(ast.unparse(node.comparators[0])):
        yield node.left
    elif isinstance(node, ast.keyword) and node.arg == "env_var":
        yield node.value
    elif isinstance(node, ast.Call) and node.args:
        called = ast.unparse(node.func)
        asked = called.removesuffix(".get")
        if called == "required" or _ENVIRONMENT.fullmatch(asked):
            yield node.args[0]


def test_every_environment_variable_is_documented() -> None:
    read = {
        variable
        for path in sources("failover/", "loadtest/", "services/", "lab/")
        for variable in variables_read(ast.parse(path.read_text()))
    }
    assert {"RECOVERY_FILE", "API_URL", "LOG_LEVEL", "LAB_BUILD_DIR", "DB_WRITER_HOST"} <= read
    prose = all_prose()
    assert not sorted(v for v in read if not mentions(prose, v))


def test_every_variable_of_the_makefile_is_documented() -> None:
    text = (ROOT / "Makefile").read_text()
    prose = all_prose()
    assert not [v for v in re.findall(r"^(\w+) \?=", text, re.MULTILINE) if not mentions(prose, v)]


# ---- the rest


def test_every_key_of_the_topology_is_documented() -> None:
    keys = ["domain", "regions", "services", *(f.name for f in fields(Service) if f.name != "name")]
    text = (ROOT / "docs/architecture.md").read_text()
    assert not [key for key in keys if f"`{key}`" not in text]


def test_every_option_has_a_section_and_is_said_of_the_lab() -> None:
    for option in (field.name for field in fields(Options)):
        assert f"\n## `{option}`\n" in (ROOT / "docs/options.md").read_text()
        assert f"\n| `{option}` | " in (ROOT / "docs/lab.md").read_text()


def test_every_knob_of_the_lab_is_in_its_table_with_both_values() -> None:
    text = (ROOT / "docs/lab.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|$", text, re.MULTILINE))
    for knob in (f.name for f in fields(Profile) if f.name != "name"):
        values = [f"{getattr(PROFILES[profile], knob):g}" for profile in ("fast", "aws")]
        assert [cell.strip() for cell in rows[knob].split("|")][:2] == values, knob


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in pages():
        text = page.read_text()
        named = re.findall(r"`make (\w+)", text)
        named += re.findall(r"^make (\w+)", "\n".join(fenced(text, "sh")), re.MULTILINE)
        assert set(named) <= targets, name(page)
    described = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert described == targets
