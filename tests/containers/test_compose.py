"""What `docker compose up` promises, read from the files: an engine may be missing where tests run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from worker.queue.messages import QUEUES
from worker.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
RUN_ONCE = {"migrate", "cli"}
WORKERS = {"worker", "worker-cpu", "trainer", "trainer-cpu"}
OURS = WORKERS | RUN_ONCE | {"flower"}
# ${NAME}, ${NAME:-default}, ${NAME:?message}; $$ is a dollar for the container's own shell.
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:[-?])([^}]*))?\}")


def seconds(duration: str) -> int:
    parts = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", duration)
    assert parts, duration
    return 60 * int(parts[1] or 0) + int(parts[2] or 0)


def env_example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_compose_file_fits_the_compose_specification() -> None:
    pytest.importorskip("check_jsonschema", reason="brings the schema of the Compose specification")
    schema = ["--builtin-schema", "vendor.compose-spec"]
    check = [sys.executable, "-m", "check_jsonschema", *schema, str(ROOT / "docker-compose.yml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_was_promised_is_there() -> None:
    assert set(SERVICES) == OURS | {"valkey", "postgres"}


@pytest.mark.parametrize("name", SERVICES)
def test_no_service_runs_as_root_or_may_become_root(name: str) -> None:
    service = SERVICES[name]
    user = VARIABLE.sub(lambda found: found[3], service["user"])
    assert user.split(":")[0] not in ("", "0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert not service.get("privileged")


@pytest.mark.parametrize("name", sorted(set(SERVICES) - RUN_ONCE))
def test_long_lived_service_has_a_health_check_and_is_restarted(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert SERVICES[name]["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(OURS - {"migrate"}))
def test_program_starts_when_servers_answer_and_the_ledger_is_migrated(name: str) -> None:
    conditions = {other: wait["condition"] for other, wait in SERVICES[name]["depends_on"].items()}
    assert conditions == {
        "valkey": "service_healthy",
        "postgres": "service_healthy",
        "migrate": "service_completed_successfully",
    }


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_worker_has_time_to_finish_or_give_back_its_chunk(name: str) -> None:
    service = SERVICES[name]
    # The launcher gives its workers the setting's time, then 10 s and 10 s more.
    needed = int(service["environment"]["XRAYCAM_SHUTDOWN_GRACE_PERIOD"]) + 20
    assert needed > 60
    assert seconds(service["stop_grace_period"]) > needed
    assert service["init"]


@pytest.mark.parametrize("name", sorted(WORKERS))
def test_worker_can_be_scaled(name: str) -> None:
    assert "container_name" not in SERVICES[name]
    assert "hostname" not in SERVICES[name]
    assert "ports" not in SERVICES[name]


def queue_of(service: dict[str, Any]) -> str:
    command = service["command"]
    return str(command[command.index("--queues") + 1])


def test_each_queue_has_a_worker_with_and_without_gpu() -> None:
    queues = {
        profile: {queue_of(SERVICES[name]) for name in WORKERS if SERVICES[name]["profiles"] == [profile]}
        for profile in ("cpu", "gpu")
    }
    assert queues == {"cpu": set(QUEUES), "gpu": set(QUEUES)}


def test_only_the_gpu_profile_asks_for_gpus() -> None:
    for name, service in SERVICES.items():
        devices = service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
        wants_gpu = any("gpu" in device["capabilities"] for device in devices)
        assert wants_gpu == (service.get("profiles") == ["gpu"]), name
        if name in OURS:
            accelerator = "gpu" if wants_gpu else "cpu"
            assert service["image"] == f"xraycam:{accelerator}"
            assert service["build"]["args"]["ACCELERATOR"] == accelerator


def test_nothing_is_published_beyond_loopback_unless_asked_for() -> None:
    assert SERVICES["flower"]["ports"] == ["127.0.0.1:5555:5555"]
    for service in SERVICES.values():
        for port in service.get("ports", []):
            assert VARIABLE.sub(lambda found: found[3], port).startswith("127.0.0.1:")


def test_flower_asks_for_a_login() -> None:
    login = SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"]
    assert [found[0] for found in VARIABLE.findall(login)] == ["FLOWER_USER", "FLOWER_PASSWORD"]


def test_broker_keeps_its_messages_and_asks_for_a_password() -> None:
    script = " ".join(SERVICES["valkey"]["command"])
    for part in ("requirepass", "--appendonly yes", "--maxmemory-policy noeviction"):
        assert part in script
    assert "broker:/data" in SERVICES["valkey"]["volumes"]


def test_images_cannot_be_changed_and_results_are_shared() -> None:
    for name in OURS - {"flower"}:
        images, home = (
            next(volume for volume in SERVICES[name]["volumes"] if target in volume)
            for target in (":/images", ":/data")
        )
        assert images.endswith(":/images:ro")
        assert home == "${DATA_FOLDER:-home}:/data"


def test_no_secret_is_written_into_the_compose_file() -> None:
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|AUTH|_URL", key):
                secrets = [found for found in VARIABLE.findall(value) if "PASSWORD" in found[0]]
                assert secrets, f"{name}: {key}"
                assert "PASSWORD" not in VARIABLE.sub("", value).upper()
    for variable, operator, _ in VARIABLE.findall(COMPOSE):
        if "PASSWORD" in variable:
            assert operator == ":?", f"{variable} must have no default"


def test_every_variable_is_explained_in_the_example_and_no_other() -> None:
    used = {found[0] for found in VARIABLE.findall(COMPOSE)}
    assert set(env_example()) - {"COMPOSE_PROFILES"} == used


def test_defaults_are_the_same_in_the_example_and_in_the_compose_file() -> None:
    example = env_example()
    for variable, operator, default in VARIABLE.findall(COMPOSE):
        if operator == ":-":
            assert example[variable] == default


def test_the_file_with_secrets_is_ignored_by_git_and_kept_out_of_the_image() -> None:
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()
    allowed = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in allowed
    assert not any(line.startswith("!.env") for line in allowed)


def test_containers_set_only_settings_that_exist() -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in OURS:
        assert {key for key in SERVICES[name]["environment"] if key.startswith(PREFIX)} <= known
