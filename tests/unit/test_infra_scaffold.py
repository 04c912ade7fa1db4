"""What `make service` writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.scaffold import ScaffoldError, main, make_service, texts, with_service
from infra.topology import Topology, TopologyError, load_topology

ROOT = Path(__file__).resolve().parents[2]
DECLARATION = """\
# The one declaration.
domain  = "example.test"
regions = ["us-east-1", "us-west-2"]      # the first is the primary

[services.service1]
[services.todo]          # with data
database = "aurora"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two services and the folder of the tests."""
    for name in ("service1", "todo", "shared"):
        (tmp_path / "services" / name).mkdir(parents=True)
        (tmp_path / "services" / name / "app.py").touch()
    (tmp_path / "tests/unit").mkdir(parents=True)
    (tmp_path / "topology.toml").write_text(DECLARATION)
    return tmp_path


def everything(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): "" if path.is_dir() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if not path.is_symlink()
    }


def test_a_service_is_a_folder_a_test_and_a_line(project: Path) -> None:
    before = everything(project)
    made = make_service(project, "my-orders")
    folder = project / "services/my-orders"
    test = project / "tests/unit/test_services_my_orders.py"
    assert made == (folder, test, project / "topology.toml")
    assert (project / "topology.toml").read_text() == DECLARATION + "[services.my-orders]\n"
    assert set(load_topology(project / "topology.toml").services) == {
        "service1", "todo", "my-orders",
    }  # fmt: skip
    assert (folder / "vendor/regional").readlink() == Path("../../shared/regional")
    assert (folder / "wheels").readlink() == Path("../shared/wheels")
    new = everything(project).keys() - before.keys()
    assert {n for n in new if not n.startswith("services/my-orders")} == {
        "tests/unit/test_services_my_orders.py"
    }
    texts = "".join(everything(folder).values())
    assert "@" not in texts.replace("@app", "").replace('dig +short @"$', "")
    assert '@"${NAMESERVER%:*}"' in texts


def test_switches_of_other_services_stay_where_they_are(project: Path) -> None:
    text = DECLARATION.replace("[services.service1]\n", '[services.service1]\nswitch = "health"\n')
    text += 'switch = "alarm"\n\n[api]\nswitch = "alarm"\n'
    (project / "topology.toml").write_text(text)

    make_service(project, "orders")

    found = load_topology(project / "topology.toml")
    switches = {entry.name: entry.switch for entry in found.entries}
    assert switches == {"service1": "health", "todo": "alarm", "orders": "arc", "api": "alarm"}


def test_making_it_again_changes_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["orders"]) == 0
    assert "added a line to topology.toml\nnext: " in capsys.readouterr().out
    before = everything(project)
    assert main(["orders"]) == 0
    assert capsys.readouterr().out == "orders is a service already; nothing was changed\n"
    assert everything(project) == before


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "a name is 1 to 31"),
        ("Orders", "a name is 1 to 31"),
        ("../orders", "a name is 1 to 31"),
        ("orders-", "a name is 1 to 31"),
        ("a" * 32, "a name is 1 to 31"),
        ("api", "the external API itself"),
        ("ping", "API Gateway keeps the path /ping"),
        ("shared", "services/shared is what all services share"),
    ],
)
def test_a_name_that_cannot_be_used(project: Path, name: str, reason: str) -> None:
    before = everything(project)
    with pytest.raises(ScaffoldError, match=reason):
        make_service(project, name)
    assert everything(project) == before


def test_everything_in_the_way_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "services/orders").symlink_to("nowhere")
    (project / "tests/unit/test_services_orders.py").touch()
    before = everything(project)
    monkeypatch.chdir(project)
    assert main(["orders"]) == 2
    said = capsys.readouterr().err
    assert "services/orders exists" in said
    assert "tests/unit/test_services_orders.py exists" in said
    assert everything(project) == before


def test_a_declaration_that_cannot_be_used(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "topology.toml").write_text("domain = 1\n")
    with pytest.raises(TopologyError):
        make_service(project, "orders")
    monkeypatch.chdir(project)
    assert main(["orders"]) == 2
    assert "topology.toml cannot be used" in capsys.readouterr().err
    assert not (project / "services/orders").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[services.a]\n", "[services.a]\n[services.n]\n"),
        ("[services.a]", "[services.a]\n[services.n]\n"),
        ("[services.a]\nk = 1\n\n# b\n[b]\n", "[services.a]\nk = 1\n[services.n]\n\n# b\n[b]\n"),
        ("[services]\na = {}\n", "[services]\na = {}\n[services.n]\n"),
        ("[b]\n[services.a]\n\n\n", "[b]\n[services.a]\n[services.n]\n\n\n"),
    ],
)  # fmt: skip
def test_the_line_comes_after_the_last_service(before: str, after: str) -> None:
    assert with_service(before, "n") == after


NAMES = st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9]", fullmatch=True), unique=True)


@given(NAMES.map(lambda names: [n for n in names if n != "n"]))
@settings(max_examples=30, deadline=None)
def test_no_line_is_lost(names: list[str]) -> None:
    text = "# first\n" + "".join(f"[services.{n}]  # {n}\n" for n in names)
    assert with_service(text, "n").splitlines() == [*text.splitlines(), "[services.n]"]


@pytest.mark.parametrize(
    "file", ["requirements.txt", ".chalice/config.json", ".chalice/policy.json"]
)
def test_what_is_made_is_what_service1_has(file: str) -> None:
    topology = Topology("example.test", ("us-east-1", "us-west-2"), {})
    made = texts("service1", topology)[file]
    written = (ROOT / "services/service1" / file).read_text()
    if file.endswith("json"):
        assert json.loads(made) == json.loads(written)
    else:
        assert made == written
