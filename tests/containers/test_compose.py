"""What the compose files promise, as Docker Compose itself resolves them with a person's `.env`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from pydantic import SecretStr

from tests.support.compose import FILES, PASSWORD, ROOT, Project, Refused
from worker.queue.messages import QUEUES
from worker.settings import PREFIX, Settings

ALL = ("cpu", "gpu", "cli")
RUN_ONCE = {"check", "migrate", "cli"}
WORKERS = {"worker": "gpu", "trainer": "gpu", "worker-cpu": "cpu", "trainer-cpu": "cpu"}
OURS = {*WORKERS, "migrate", "cli", "flower"}
MUST_BE_SET = ("VALKEY_PASSWORD", "POSTGRES_PASSWORD", "FLOWER_USER", "FLOWER_PASSWORD", "XRAYCAM_IMAGES",
               "DATA_FOLDER", "COMPOSE_PROFILES")  # fmt: skip


def seconds(duration: str) -> float:
    return sum(
        float(number) * (60 if unit == "m" else 1) for number, unit in re.findall(r"([\d.]+)([ms])", duration)
    )


@pytest.mark.parametrize("name", FILES)
def test_compose_file_fits_the_compose_specification(name: str) -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    check = [sys.executable, "-m", "check_jsonschema", *schema, str(ROOT / name)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_service_is_root_or_can_become_root_or_writes_to_its_image(project: Project) -> None:
    for name, service in project.services(profiles=ALL).items():
        assert service["user"].split(":")[0] not in ("", "0", "root"), name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["read_only"], name
        assert "/tmp" in service["tmpfs"], name  # noqa: S108 - in the container


def test_what_runs_for_long_is_checked_and_started_again_and_may_be_scaled(project: Project) -> None:
    services = project.services(profiles=ALL)
    for name in set(services) - RUN_ONCE:
        assert services[name]["healthcheck"]["test"], name
        assert services[name]["restart"] == "unless-stopped", name
    for name in RUN_ONCE:
        assert services[name].get("restart", "no") == "no", name
    for name in WORKERS:
        assert not {"container_name", "hostname", "ports"} & set(services[name]), name


def test_servers_wait_for_the_check_and_the_program_for_servers_and_tables(project: Project) -> None:
    services = project.services(profiles=ALL)

    def waits(name: str) -> dict[str, str]:
        return {other: wait["condition"] for other, wait in services[name]["depends_on"].items()}

    assert waits("valkey") == waits("postgres") == {"check": "service_completed_successfully"}
    assert waits("migrate") == {"postgres": "service_healthy"}
    for name in OURS - {"migrate"}:
        assert waits(name) == {
            "valkey": "service_healthy",
            "postgres": "service_healthy",
            "migrate": "service_completed_successfully",
        }, name


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_one_service_builds_the_image_that_all_use_and_nobody_pulls_it(
    project: Project, profile: str
) -> None:
    project.set(COMPOSE_PROFILES=profile)
    services = project.services(profiles=())
    assert [name for name, service in services.items() if "build" in service] == ["migrate"]
    assert services["migrate"]["build"]["args"]["ACCELERATOR"] == profile
    ours = {name: service for name, service in services.items() if name in OURS}
    assert set(ours) == {"migrate", "flower", *(name for name in WORKERS if WORKERS[name] == profile)}
    assert {service["image"] for service in ours.values()} == {f"xraycam:{profile}"}
    assert {service["pull_policy"] for service in ours.values()} == {"never"}
    for name, service in services.items():
        devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        assert bool(devices) == (WORKERS.get(name) == "gpu"), name
    commands = [service["command"] for name, service in ours.items() if name in WORKERS]
    assert {command[command.index("--queues") + 1] for command in commands} == set(QUEUES)


@pytest.mark.parametrize("given", ["", "5", "300.5"])
def test_a_worker_has_longer_to_stop_than_its_setting_whatever_that_is(project: Project, given: str) -> None:
    project.set(XRAYCAM_SHUTDOWN_GRACE_PERIOD=given)
    services = project.services(profiles=ALL)
    for name in WORKERS:
        told = float(services[name]["environment"]["XRAYCAM_SHUTDOWN_GRACE_PERIOD"])
        assert told == float(given or 90)
        # After the setting's time the supervisor gives its workers 10 s, and 10 s more.
        assert seconds(services[name]["stop_grace_period"]) >= told + 20 + 30, name
        assert services[name]["init"], name


def test_every_setting_reaches_every_service_from_the_env_file(project: Project) -> None:
    values = {PREFIX + name.upper(): f"value-of-{name}" for name in Settings.model_fields if name != "home"}
    values["XRAYCAM_SHUTDOWN_GRACE_PERIOD"] = "7"  # part of a duration
    project.set(**values)
    services = project.services(profiles=ALL)
    for name in OURS:
        environment = services[name]["environment"]
        assert {key: environment.get(key) for key in values} == values, name
        assert environment["XRAYCAM_HOME"] == "/data", name


def test_an_empty_setting_is_as_good_as_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.set(**{PREFIX + name.upper(): "" for name in Settings.model_fields if name != "home"})
    environment = project.services()["worker-cpu"]["environment"]
    for name in [key for key in environment if key.startswith(PREFIX)]:
        monkeypatch.setenv(name, environment[name])
    found = Settings()
    assert found.broker == f"redis://:{PASSWORD}@valkey:6379/0"
    assert found.database == f"postgresql+psycopg://xraycam:{PASSWORD}@postgres:5432/xraycam"
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    changed = {name for name, value in found if value != defaults[name] and not isinstance(value, SecretStr)}
    assert changed == {"home", "shutdown_grace_period"}


@pytest.mark.parametrize("name", MUST_BE_SET)
def test_what_must_be_set_is_asked_for_by_name(project: Project, name: str) -> None:
    project.set(**{name: ""})
    with pytest.raises(Refused, match=rf"required variable {name} is missing a value: set it in \.env"):
        project.services()


def test_the_example_sets_nothing_that_a_person_must_decide() -> None:
    example = dict(
        line.split("=", 1)
        for line in (ROOT / ".env.example").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert {name for name, value in example.items() if not value} == set(MUST_BE_SET) - {"COMPOSE_PROFILES"}
    used = set(re.findall(r"(?<!\$)\$\{(\w+)", "".join((ROOT / name).read_text() for name in FILES)))
    said = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used <= said


def test_images_are_read_only_and_results_are_in_a_folder_of_the_persons(project: Project) -> None:
    services = project.services(profiles=ALL)
    for name in OURS - {"flower"}:
        images, data = services[name]["volumes"]
        assert (images["source"], images["target"]) == (str(project.images), "/images"), name
        assert images["read_only"], name
        assert (data["type"], data["source"], data["target"]) == ("bind", str(project.data), "/data"), name
    # A folder that is missing is refused by the engine, not made as root's.
    assert (ROOT / FILES[0]).read_text().count("bind: {create_host_path: false}") == 2


def test_flower_is_published_to_this_machine_alone_and_the_servers_only_when_asked(project: Project) -> None:
    def published(*files: str) -> set[tuple[str, str, str]]:
        services = project.services(*files, profiles=ALL)
        return {
            (name, port["host_ip"], port["published"])
            for name, service in services.items()
            for port in service.get("ports", [])
        }

    flower = ("flower", "127.0.0.1", "5555")
    assert published() == {flower}
    with pytest.raises(Refused, match="required variable SERVERS_ADDRESS is missing"):
        published(*FILES)
    project.set(SERVERS_ADDRESS="10.0.0.5")
    assert published(*FILES) == {flower, ("valkey", "10.0.0.5", "6379"), ("postgres", "10.0.0.5", "5432")}


def test_each_service_is_given_only_the_passwords_that_it_needs(project: Project) -> None:
    names = ("VALKEY_PASSWORD", "POSTGRES_PASSWORD", "FLOWER_PASSWORD")
    project.set(**{name: f"{name.lower()}-is-this" for name in names})
    for name, service in project.services(profiles=ALL).items():
        text = str(service["environment"])
        assert ("flower_password-is-this" in text) == (name in ("flower", "check")), name
        assert "password-is-this" not in str(service["command"]), name


def test_broker_keeps_its_messages_and_asks_for_a_password(project: Project) -> None:
    valkey = project.services()["valkey"]
    for part in ("requirepass", "--appendonly yes", "--maxmemory-policy noeviction"):
        assert part in valkey["command"][0]
    assert valkey["volumes"][0]["target"] == "/data"


def test_the_file_with_secrets_is_ignored_by_git_and_kept_out_of_the_image() -> None:
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()
    let_in = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in let_in
    assert not any(line.startswith("!.env") for line in let_in)
