"""Our settings win over Celery's own variables, in every process that makes the app."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.support.servers import Valkey
from worker.queue.celery_app import create_celery_app
from worker.settings import Settings

ELSEWHERE = "redis://somebody.else:7999/3"
THEIRS = {
    "CELERY_BROKER_URL": ELSEWHERE,
    "CELERY_BROKER_READ_URL": ELSEWHERE,
    "CELERY_BROKER_WRITE_URL": ELSEWHERE,
    "CELERY_RESULT_BACKEND": ELSEWHERE,
    "CELERY_LOADER": "nowhere.Loader",
    "CELERY_CONFIG_MODULE": "nowhere",
}


def test_the_app_talks_to_our_broker_whatever_celery_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in THEIRS.items():
        monkeypatch.setenv(name, value)
    app = create_celery_app(Settings(broker_url=SecretStr("redis://127.0.0.1:6390/2")))
    for connection in (app.connection_for_read(), app.connection_for_write()):
        assert (connection.hostname, connection.port, connection.virtual_host) == ("127.0.0.1", 6390, "2")
    assert app.conf.result_backend is None


def test_the_celery_command_finds_our_broker(valkey: Valkey, tmp_path: Path) -> None:
    # Flower is started in this way; `report` prints the configuration that it would use.
    environment = {
        **os.environ, **THEIRS, "BROKER_URL": ELSEWHERE, "RESULT_BACKEND": ELSEWHERE,
        "XRAYCAM_HOME": str(tmp_path), "XRAYCAM_BROKER_URL": valkey.url,
    }  # fmt: skip
    del environment["CELERY_LOADER"]  # Celery's command fails on it before it comes to us
    done = subprocess.run(
        [sys.executable, "-P", "-m", "celery", "-A", "worker", "report"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "somebody.else" not in done.stdout
    assert str(valkey.port) in done.stdout
