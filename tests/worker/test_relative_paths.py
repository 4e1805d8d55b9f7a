"""A relative path in a setting means what it means where the user stands, in every process."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

import pytest

from db.ledger import Ledger
from tests.support.installation import Installation, draw_many
from worker.environment import child_environment
from worker.settings import load_settings


@pytest.fixture
def here(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; `home` keeps other settings away."""
    assert home
    folder = tmp_path / "where the user stands"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("given", "file"),
    [
        ("sqlite:///mine.sqlite3", "mine.sqlite3"),
        ("sqlite:///sub/a%3Fb.sqlite3?timeout=5", "sub/a?b.sqlite3"),
        ("sqlite:///./mine.sqlite3", "mine.sqlite3"),
        ("sqlite:///file:mine.sqlite3?uri=true", "file:mine.sqlite3"),
        ("sqlite:////srv/theirs.sqlite3", None),
    ],
)
def test_ledger(here: Path, monkeypatch: pytest.MonkeyPatch, given: str, file: str | None) -> None:
    monkeypatch.setenv("XRAYCAM_DATABASE_URL", given)
    found = Ledger(load_settings().database).url
    prefix = "file:" if file and file.startswith("file:") else ""
    wanted = "/srv/theirs.sqlite3" if file is None else prefix + str(here / file.removeprefix("file:"))
    assert found.database == wanted
    assert dict(found.query) == dict(Ledger(given).url.query)


def test_certificates_models_and_variables_of_other_libraries(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "ca.pem").write_text("")
    (here / "key.json").write_text("{}")
    monkeypatch.setenv("XRAYCAM_MODELS", "store")
    monkeypatch.setenv("XRAYCAM_BROKER_URL", "rediss://:a%2Fb@broker:6379/0?ssl_ca_certs=ca.pem")
    monkeypatch.setenv(
        "XRAYCAM_DATABASE_URL",
        "postgresql+psycopg://me:a%2Fb@db/x?sslrootcert=ca.pem&sslcert=gone.pem&sslmode=verify-full",
    )
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "key.json")
    monkeypatch.setenv("PGSSLROOTCERT", "system")
    settings = load_settings()
    environment = child_environment(settings)

    assert settings.model_store == environment["XRAYCAM_MODELS"] == str(here / "store")
    assert f"{here}/ca.pem".replace("/", "%2F").replace(" ", "+") in environment["XRAYCAM_BROKER_URL"]
    ledger = Ledger(environment["XRAYCAM_DATABASE_URL"]).url
    assert ledger.password == unquote("a%2Fb")
    assert dict(ledger.query) == {
        "sslrootcert": str(here / "ca.pem"), "sslcert": "gone.pem", "sslmode": "verify-full",
    }  # fmt: skip
    assert environment["GOOGLE_APPLICATION_CREDENTIALS"] == str(here / "key.json")
    assert environment["PGSSLROOTCERT"] == "system"


def test_a_run_with_relative_settings_has_one_ledger_and_one_store(installation: Installation) -> None:
    xrays = draw_many(installation.folder / "xrays", 3)
    installation.without_tensorflow()
    installation.set(database_url="sqlite:///mine.sqlite3", models="store", output="drawn")
    installation.xraycam("run", xrays.name, "--no-report")
    installation.environment["XRAYCAM_DATABASE_URL"] = f"sqlite:///{installation.folder}/mine.sqlite3"
    assert installation.counts() == {"images": 3, "done": 3}
    assert len(list((installation.folder / "drawn").rglob("*.jpg"))) == 3
