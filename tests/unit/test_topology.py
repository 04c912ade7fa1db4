"""`topology.toml`: what is accepted, and that all faults come out at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.topology import (
    Options,
    Pipeline,
    Service,
    TopologyError,
    load_topology,
)

GOOD = """
domain = "example.test"
regions = ["us-east-1", "us-west-2"]
[services.health]
[services.copy]
code = "health"
[services.todo]
database = "aurora"
"""


def write(folder: Path, text: str) -> Path:
    for name in ("health", "todo"):
        (folder / "services" / name).mkdir(parents=True)
        (folder / "services" / name / "app.py").touch()
    path = folder / "topology.toml"
    path.write_text(text)
    return path


def reasons(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(TopologyError) as caught:
        load_topology(write(folder, text))
    assert all(reason in str(caught.value) for reason in caught.value.reasons)
    return caught.value.reasons


def test_a_good_one_is_read(tmp_path: Path) -> None:
    topology = load_topology(write(tmp_path, GOOD))

    assert topology.domain == "example.test"
    assert topology.regions == ("us-east-1", "us-west-2")
    assert topology.primary == "us-east-1"
    assert dict(topology.services) == {
        "health": Service("health"),
        "copy": Service("copy", code="health"),
        "todo": Service("todo", database="aurora"),
    }
    assert topology.services["copy"].folder == "health"
    assert topology.host("todo") == "todo.example.test"
    assert topology.pinned_host("todo", "us-west-2") == "todo.us-west-2.example.test"


def test_services_may_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a", GOOD)
    moved = path.rename(tmp_path / "topology.toml")

    assert load_topology(moved, tmp_path / "a" / "services").services.keys()


def test_all_faults_come_out_at_once(tmp_path: Path) -> None:
    found = reasons(
        tmp_path,
        """
        domain = "not a domain"
        region = "us-east-1"
        regions = ["us-east-1", "Mars"]
        [services.api]
        [services.Health]
        [services.todo]
        databse = "aurora"
        database = "oracle"
        switch = "weights"
        code = 7
        """,
    )

    text = "\n".join(found)
    for expected in (
        "unknown key 'region'",
        "domain: 'not a domain'",
        "regions: 'Mars'",
        "services.api: 'api' is the name of the external API itself",
        "services.Health: a name is",
        "services.todo: unknown key 'databse'",
        "services.todo.code: 7 is not a string",
        "services.todo.database: 'oracle'",
        "services.todo.switch: 'weights'",
        "there is no services/Health/app.py",
    ):
        assert expected in text


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        ('"us-east-1"', "give a list"),
        ("[]", "two are needed, 0 given"),
        ('["us-east-1"]', "two are needed, 1 given"),
        ('["us-east-1", "us-west-2", "eu-west-1"]', "two are needed, 3 given"),
        ('["us-east-1", "us-east-1"]', "is given twice"),
        ("[1, 2]", "give a list"),
    ],
)
def test_two_different_regions_are_needed(tmp_path: Path, regions: str, expected: str) -> None:
    text = f'domain = "example.test"\nregions = {regions}\n[services.health]\n'

    assert any(expected in reason for reason in reasons(tmp_path, text))


@pytest.mark.parametrize(
    "name", ["1st", "with_underscore", "ends-", "Upper", "a" * 32, '"with.dot"', '""']
)
def test_a_service_name_is_one_dns_label(tmp_path: Path, name: str) -> None:
    text = f'domain = "example.test"\nregions = ["us-east-1", "us-west-2"]\n[services.{name}]\n'

    assert any("a name is 1 to 31" in reason for reason in reasons(tmp_path, text))


@pytest.mark.parametrize(
    "domain", ["test", "-a.test", "a..test", "A.test", "a.test.", "a.1", "", "a." + "b" * 61]
)
def test_a_domain_has_two_lower_case_labels(tmp_path: Path, domain: str) -> None:
    text = f'domain = "{domain}"\nregions = ["us-east-1", "us-west-2"]\n[services.health]\n'

    assert any(reason.startswith("domain:") for reason in reasons(tmp_path, text))


def test_paths_that_api_gateway_keeps_are_no_services(tmp_path: Path) -> None:
    text = GOOD + "[services.ping]\n"

    assert "services.ping: API Gateway keeps the path /ping for itself" in reasons(tmp_path, text)


def test_a_service_is_a_table(tmp_path: Path) -> None:
    text = 'domain = "a.test"\nregions = ["us-east-1", "us-west-2"]\n[services]\nhealth = 1\n'

    assert any("write it as a table" in reason for reason in reasons(tmp_path, text))


@pytest.mark.parametrize(
    "text", ['domain = "a.test"\nregions = ["us-east-1", "us-west-2"]\n', "services = []"]
)
def test_a_topology_without_services_is_refused(tmp_path: Path, text: str) -> None:
    assert any("at least one [services.<name>]" in reason for reason in reasons(tmp_path, text))


def test_a_missing_file_and_a_broken_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="there is no such file"):
        load_topology(tmp_path / "none.toml")
    assert any("not TOML" in reason for reason in reasons(tmp_path, "domain = "))


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "topology.toml"
    path.write_bytes(b"\xff\xfe")

    with pytest.raises(TopologyError, match="not TOML"):
        load_topology(path)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="cannot be read"):
        load_topology(tmp_path)


@pytest.mark.parametrize("code", ["../health", "health/sub", "/health"])
def test_code_is_the_name_of_a_folder_below_services(tmp_path: Path, code: str) -> None:
    text = GOOD.replace('code = "health"', f'code = "{code}"')

    assert any("is not the name of a folder" in reason for reason in reasons(tmp_path, text))


# --- switches and options

REGIONS = 'domain = "example.test"\nregions = ["us-east-1", "us-west-2"]\n'


def test_each_entry_has_a_switch_of_its_own(tmp_path: Path) -> None:
    text = REGIONS + (
        '[services.health]\nswitch = "health"\nrecords = "weighted"\nhealth_path = "/"\n'
        '[services.todo]\nswitch = "alarm"\ndatabase = "aurora"\n[api]\nswitch = "alarm"\n'
    )

    topology = load_topology(write(tmp_path, text))

    assert [entry.switch for entry in topology.entries] == ["health", "alarm", "alarm"]
    assert topology.entries[-1] == Service("api", switch="alarm")
    assert topology.switched_by("arc") == ()
    assert topology.services["health"].records == "weighted"
    assert topology.services["health"].checked_path == "/"
    assert [entry.holds for entry in topology.entries] == [True, False, False]


def test_what_is_not_asked_for_is_off(tmp_path: Path) -> None:
    topology = load_topology(write(tmp_path, GOOD))

    assert topology.options == Options()
    assert topology.pipeline is None
    assert {entry.switch for entry in topology.entries} == {"arc"}
    assert topology.services["copy"].checked_path == "/deep"


def test_options_and_pipeline_are_read(tmp_path: Path) -> None:
    connection = "arn:aws:codeconnections:us-west-2:111122223333:connection/0a-1b"
    text = GOOD + (
        "[options]\ncloudfront = true\nreadiness = false\nalarm_email = 'oncall@example.org'\n"
        f'[pipeline]\nconnection = "{connection}"\nrepository = "me/two-region-api"\n'
    )

    topology = load_topology(write(tmp_path, text))

    assert topology.options == Options(cloudfront=True, alarm_email="oncall@example.org")
    assert topology.pipeline == Pipeline(connection, "me/two-region-api", "main")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('[services.health]\nswitch = "arm"', ".switch: 'arm'; known are arc, alarm, health"),
        ('[services.todo]\nswitch = "health"\ndatabase = "aurora"', "without its database"),
        ('[services.health]\nrecords = "weighted"', ".records: only a service with switch"),
        ('[services.health]\nfailback = "automatic"', ".failback: only a service with switch"),
        ('[services.health]\nswitch = "health"\nfailback = "no"', ".failback: 'no'; known are"),
        ('[services.health]\nhealth_path = "/"', ".health_path: only a service with switch"),
        (
            '[services.health]\nswitch = "health"\nrecords = "latency"',
            ".records: 'latency'; known are failover, weighted",
        ),
        ('[services.health]\nswitch = "health"\nhealth_path = "deep"', "is not a path such as"),
        ('[services.health]\n[api]\nswitch = "health"', 'api.switch: "health" has nothing'),
        ('[services.health]\n[api]\ndatabase = "aurora"', "api: unknown key 'database'"),
        ("[services.health]\n[options]\ncloudfront = 1", "options.cloudfront: 1 is neither"),
        ("[services.health]\n[options]\ncdn = true", "options: unknown key 'cdn'"),
        ("[services.health]\n[options]\nalarm_email = true", "options.alarm_email: True is not an"),
        ('[services.health]\n[options]\nalarm_email = "oncall"', "'oncall' is not an address"),
        ('[services.health]\n[options]\nalarm_topics = "a"', "'a' is not a table with the ARN of"),
        (
            '[services.front]\ncode = "health"\n[options]\ncloudfront = true',
            "services.front: with options.cloudfront this name is CloudFront's",
        ),
        (
            '[services.health]\nswitch = "health"\n[api]\nswitch = "alarm"\n'
            "[options]\nregion_switch = true",
            'options.region_switch: nothing has switch = "arc"',
        ),
        (
            '[services.todo]\nswitch = "alarm"\ndatabase = "aurora"\n'
            "[options]\nregion_switch = true",
            "a plan would move its database and not its traffic",
        ),
        ('[services.health]\n[pipeline]\nrepository = "a/b"', "pipeline.connection: ''"),
        ("[services.health]\n[pipeline]\nbranch = 1", "pipeline.branch: 1 is not a string"),
    ],
)
def test_a_switch_or_option_that_cannot_be_is_refused(
    tmp_path: Path, text: str, expected: str
) -> None:
    assert any(expected in reason for reason in reasons(tmp_path, REGIONS + text))


EAST = "arn:aws:sns:us-east-1:111122223333:pager"
WEST = "arn:aws:sns:us-west-2:111122223333:pager"


def topics(**given: str) -> str:
    text = ", ".join(f'"{region.replace("_", "-")}" = "{arn}"' for region, arn in given.items())
    return REGIONS + f"[services.health]\n[options]\nalarm_topics = {{{text}}}\n"


def test_alarms_can_tell_topics_that_are_there_one_in_each_region(tmp_path: Path) -> None:
    topology = load_topology(write(tmp_path, topics(us_east_1=EAST, us_west_2=WEST)))

    assert topology.options.alarm_topics == {"us-east-1": EAST, "us-west-2": WEST}
    assert topology.options.alarm_email == ""


def test_everything_that_is_wrong_with_topics_is_said_at_once(tmp_path: Path) -> None:
    text = topics(us_east_1=WEST, eu_west_1=WEST) + 'alarm_email = "oncall@example.org"\n'

    found = reasons(tmp_path, text)

    assert [reason.removeprefix("options.alarm_topics: ") for reason in found] == [
        "there is alarm_email too; give one of them",
        "us-west-2 has none, and its alarms can notify no other region's topic",
        "the topic of us-east-1 is in us-west-2, where its alarms cannot reach",
        "'eu-west-1' is not one of the regions",
    ]


@pytest.mark.parametrize("arn", ["pager", f"{EAST}.fifo", "arn:aws:sqs:us-east-1:111122223333:q"])
def test_what_is_no_topic_that_an_alarm_can_notify_is_refused(tmp_path: Path, arn: str) -> None:
    found = reasons(tmp_path, topics(us_east_1=arn, us_west_2=WEST))

    assert found == (f"options.alarm_topics: {arn!r} is not the ARN of a standard topic of SNS",)
