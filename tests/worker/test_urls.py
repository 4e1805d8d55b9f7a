"""No path is pasted into a URL, and no part of a URL is shown that may be of a password."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from db.ledger import Ledger
from db.migrate import migrate
from worker.model.store import STARTER, ModelStore
from worker.queue.broker import client, redact_url
from worker.queue.celery_app import create_celery_app
from worker.settings import Settings, SettingsError, load_settings

NAMES = (
    "TB%20data",
    "TB data",
    "what?a=1",
    "what",
    "a#b",
    "a",
    "a::b",
    "100%",
    "f%2Fg",
    "ü",
    "x&y=z",
    "a+b",
    "a@b:c",
)


def test_every_folder_has_a_ledger_of_its_own(tmp_path: Path) -> None:
    for name in NAMES:
        ledger = Ledger(Settings(home=tmp_path / name).database)
        migrate(ledger)
        ledger.close()
    assert {path.name for path in tmp_path.iterdir()} == set(NAMES)
    assert all((tmp_path / name / "ledger.sqlite3").is_file() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_model_store_may_have_any_folder_name(tmp_path: Path, name: str) -> None:
    store = ModelStore(Settings(home=tmp_path / name).model_store, tmp_path / "cache")
    version = store.publish(STARTER)
    assert (tmp_path / name / "models" / version / "model.json").is_file()
    assert store.exists(version)
    assert store.size(version) > 0


@pytest.mark.parametrize("sign", ["#", "/", "?", "@", "[", "#1/", "?@"])
@pytest.mark.parametrize(
    ("variable", "form"),
    [
        ("XRAYCAM_BROKER_URL", "redis://:20{sign}24Secret@broker:6379/0"),
        ("XRAYCAM_BROKER_URL", "redis://me:20{sign}24Secret@broker/0"),
        ("XRAYCAM_DATABASE_URL", "postgresql+psycopg://me:20{sign}24Secret@db:5432/x"),
        ("XRAYCAM_MODELS", "ftp://me:20{sign}24Secret@store:21/models"),
    ],
)
def test_a_password_is_understood_or_refused_and_never_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, form: str, sign: str
) -> None:
    url = form.format(sign=sign)
    monkeypatch.setenv("XRAYCAM_DATABASE_URL", "postgresql+psycopg://me:other@db/x")
    monkeypatch.setenv(variable, url)
    try:
        settings = load_settings()
        # Understood whole: the password is known as one that must not be written down.
        shown = [redact_url(url), str(Ledger(settings.database)), redact_url(settings.broker or "")]
        assert f"20{sign}24Secret" in settings.passwords
    except SettingsError as refusal:
        shown = [str(refusal)]
        if "%23" not in shown[0] and "is no URL" not in shown[0]:
            raise
    assert not [text for text in (*shown, redact_url(url)) if "Secret" in text]
    assert home  # the fixture keeps other settings away


@pytest.mark.parametrize(
    ("url", "database"),
    [
        ("redis://127.0.0.1:1/3", 3),
        ("redis://127.0.0.1:1", 0),
        ("redis+socket:///tmp/v.sock", 0),
        ("redis+socket:///tmp/v.sock?virtual_host=2", 2),
        ("redis+socket:///tmp/v.sock?virtual_host=/2", 2),
        ("redis+socket:///tmp/v.sock?db=2", 2),
        ("redis+socket:///tmp/v%231.sock?db=2", 2),
    ],
)
def test_celery_and_redis_use_the_same_database(url: str, database: int) -> None:
    settings = Settings(broker_url=SecretStr(url))
    assert settings.broker is not None
    ours = client(settings.broker).connection_pool.connection_kwargs
    theirs = _of_kombu(settings)
    assert int(ours.get("db", 0)) == int(theirs["db"]) == database
    assert ours.get("path") == theirs.get("path")


def _of_kombu(settings: Settings) -> dict[str, object]:
    connection = create_celery_app(settings).connection_for_write()
    channel = connection.transport.Channel.__new__(connection.transport.Channel)
    channel.connection = type("Given", (), {"client": connection, "default_port": 6379})()
    found: dict[str, object] = channel._connparams()
    return found


@pytest.mark.parametrize(
    "url",
    ["redis://h/x", "redis://h/1?db=2", "redis+socket:///s?db=1&virtual_host=2", "redis+socket:///s?db=x"],
)
def test_a_database_that_is_not_one_number_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("XRAYCAM_BROKER_URL", url)
    with pytest.raises(SettingsError, match="by its number alone"):
        load_settings()
    assert home
