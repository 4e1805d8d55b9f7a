"""What `docker compose` makes of the project's files and of a person's `.env`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.support.installation import unavailable

ROOT = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.publish.yml")
PASSWORD = "correct-horse-7-staple"  # noqa: S105 - of servers that a test starts
# An ordinary user, in a group that Debian gave a name to: 100 is `users`.
USER, GROUP = 1234, 100

Service = dict[str, Any]


class Refused(Exception):
    """Raised when `docker compose` refuses the files; its text is what the person reads."""


@lru_cache(maxsize=1)
def docker_compose() -> list[str]:
    """Docker Compose 2, which needs no engine to resolve files; skips the test where it is missing."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is not None:
            told = subprocess.run(
                [*command, "version", "--short"], capture_output=True, text=True, check=False
            )
            if told.returncode == 0 and told.stdout.strip().lstrip("v").split(".")[0] not in ("", "1"):
                return command
    unavailable("neither 'docker compose' nor docker-compose, version 2 or later, is here")
    raise AssertionError


class Project:
    """The compose files in a folder, beside an `.env` that began as `.env.example` and was filled in."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        for name in FILES:
            shutil.copy(ROOT / name, folder)
        self.images = folder / "xrays"
        self.data = folder / "results"
        self._text = (ROOT / ".env.example").read_text()
        self.set(
            XRAYCAM_IMAGES=str(self.images), DATA_FOLDER=str(self.data), VALKEY_PASSWORD=PASSWORD,
            POSTGRES_PASSWORD=PASSWORD, FLOWER_USER="anna", FLOWER_PASSWORD=PASSWORD, **env,
        )  # fmt: skip

    def set(self, **values: str) -> None:
        """Set variables in `.env`, where they stand or at its end."""
        lines = [
            line
            for line in self._text.splitlines()
            if line.startswith("#") or line.split("=", 1)[0] not in values
        ]
        self._text = "\n".join([*lines, *(f"{name}={value}" for name, value in values.items())]) + "\n"
        (self.folder / ".env").write_text(self._text)

    def services(self, *files: str, profiles: tuple[str, ...] = ("cpu", "cli")) -> dict[str, Service]:
        """The services of these profiles, none: of those in `.env`, as they would start. Raises Refused."""
        named = [word for name in files or FILES[:1] for word in ("--file", name)]
        wanted = [word for name in profiles for word in ("--profile", name)]
        done = subprocess.run(
            [*docker_compose(), *named, *wanted, "config", "--format", "json"],
            cwd=self.folder, capture_output=True, text=True, check=False,
            env={name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        )  # fmt: skip
        if done.returncode:
            raise Refused(done.stderr.strip())
        # `config` writes every $ that is meant for the container's shell as $$.
        services: dict[str, Service] = json.loads(done.stdout.replace("$$", "$"))["services"]
        return services
