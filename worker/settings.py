"""Every setting of xraycam, from environment variables `XRAYCAM_*`; wrong ones are refused at start."""

from __future__ import annotations

import difflib
import os
import re
import socket
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from worker.errors import XraycamError
from worker.processors import usable_processors
from worker.relative_paths import absolute_database, absolute_parameter
from worker.remote.folder import RemoteFolder, place_of
from worker.remote.urls import refuse_url

PREFIX = "XRAYCAM_"
# Beside a network on the CPU, which takes half of the processors' time, so many do without more processes.
THREADS_ON_CPU = 2


_ENCODE = "in a user name or password write # as %23, / as %2F, ? as %3F and @ as %40"
_SQLITE_OPTIONS = (
    "mode",
    "uri",
    "cache",
    "immutable",
    "nolock",
    "timeout",
    "vfs",
    "psow",
    "check_same_thread",
)


class SettingsError(XraycamError):
    """Raised when a setting has a value that cannot be."""


class Settings(BaseModel):
    """The settings; each is the environment variable `XRAYCAM_<NAME>`, in whatever case, where not given.

    An empty variable counts as unset.
    """

    # Not of pydantic-settings: importing it takes as long as a query, in every process that starts.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def __init__(self, **given: Any) -> None:
        variables = {name.upper(): value for name, value in os.environ.items()} | dict(os.environ)
        found = {name: variables.get(PREFIX + name.upper()) for name in type(self).model_fields}
        super().__init__(**({name: value for name, value in found.items() if value} | given))

    home: Path = Field(Path("xraycam-data"), description="folder for ledger, models and overlays")
    broker_url: SecretStr | None = Field(
        None, description="Redis or Valkey, redis://...; unset: `run` starts a private server"
    )
    database_url: SecretStr | None = Field(
        None, description="sqlite:///FILE or postgresql+psycopg://...; unset: SQLite in the home folder"
    )
    models: str | None = Field(
        None,
        description="model store: a path or an fsspec URL (s3://...); unset: `models` in the home folder",
    )
    output: str | None = Field(
        None,
        description="overlays: a path or a URL (s3://bucket/prefix); unset: `overlays` in the home folder",
    )
    chunk_size: int = Field(128, ge=1, le=1024, description="images a message stands for")
    batch_size: int = Field(
        16, ge=0, le=512, description="images through the network at once; auto (0): measured at start"
    )
    threads: int = Field(
        0,
        ge=0,
        le=1024,
        description="threads to decode, and as many to render; 0: the device's share of the processors",
    )
    processes: int = Field(
        0,
        ge=0,
        le=256,
        description="processes to decode and render in; 1: the worker's own; 0: one for each thread, but "
        "the worker's own for up to 2 on a CPU",
    )
    lease_timeout: float = Field(
        60.0, ge=1.0, le=3600.0, description="how long a chunk stays with a worker that went silent"
    )
    max_attempts: int = Field(3, ge=2, le=10, description="tries for an image that takes its worker down")
    image_timeout: float = Field(60.0, gt=0.0, le=600.0, description="time limit for one image")
    max_pixels: int = Field(100_000_000, ge=1, le=10**9, description="larger images are refused")
    max_bytes: int = Field(200_000_000, ge=1, le=10**10, description="larger files are refused")
    identity_key_file: Path | None = Field(
        None,
        description="key of the hashes of patients, the same for all workers; unset: `identity.key` in the "
        "home folder, made by whoever comes first",
    )
    max_queued_messages: int = Field(
        2000,
        ge=10,
        le=10**6,
        description="messages in the broker above which `enqueue` waits for the workers",
    )
    init_weights: str = Field(
        "imagenet", description="weights a training starts from: imagenet, a file, a model version, or none"
    )
    train_cache_bytes: int = Field(
        4_000_000_000, ge=0, le=10**13, description="bytes of images and features a training keeps in memory"
    )
    promote_tolerance: float = Field(
        0.01, ge=0.0, le=1.0, description="by how much less AUC a new version may have and become current"
    )
    shutdown_grace_period: float = Field(
        30.0, ge=1.0, le=86400.0, description="time a worker has to finish its chunk when it is told to stop"
    )
    log_level: str = Field("WARNING", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="of the workers")
    log_format: Literal["text", "json"] = Field(
        "text", description="of the workers: text, or json, one object a line"
    )
    keep_env: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_*, ]*$",
        description="variables of the shell that workers see beside those they need: NAME, PREFIX_*",
    )
    dicomweb_token: SecretStr | None = Field(None, description="bearer token for DICOMweb servers")
    dicomweb_user: str | None = Field(
        None, description="user for DICOMweb servers; unset: what ~/.netrc has for them"
    )
    dicomweb_password: SecretStr | None = Field(None, description="password of that user")
    dicomweb_rate: float = Field(
        50.0, gt=0.0, le=10_000.0, description="requests to a DICOMweb server in a second, at most"
    )
    pacs_timeout: float = Field(
        120.0, ge=0.0, le=86400.0, description="time for which a PACS that is away is tried again"
    )
    spool_bytes: int = Field(
        100_000_000_000, ge=1, le=10**15, description="bytes that images fetched or received may take"
    )
    dicom_aet: str = Field(
        "XRAYCAM", pattern=r"^[!-\[\]-~]{1,16}$", description="our application entity title, when we call"
    )
    dicom_tls_certificate: Path | None = Field(None, description="our certificate for DICOM over TLS (PEM)")
    dicom_tls_key: Path | None = Field(None, description="its key (PEM)")
    dicom_tls_ca: Path | None = Field(
        None, description="certificates that DICOM nodes are checked by (PEM); unset: the system's"
    )
    umask: str = Field("077", pattern="^0?[0-7]{3}$", description="permissions that new files do not get")

    @field_validator("batch_size", mode="before")
    @classmethod
    def _measured(cls, value: Any) -> Any:
        return 0 if value == "auto" else value

    @field_validator("home", "identity_key_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        try:
            if value is not None:
                refuse_url(value)
            return None if value is None else value.expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(f"{error}; write the whole path") from None
        except XraycamError as error:
            raise ValueError(str(error)) from None

    @field_validator("output")
    @classmethod
    def _known_output(cls, value: str | None) -> str | None:
        try:
            place = None if value is None else place_of(value)
            return str(place.expanduser().absolute() if isinstance(place, Path) else place) if place else None
        except RuntimeError as error:
            raise ValueError(f"{error}; write the whole path") from None
        except XraycamError as error:
            raise ValueError(str(error)) from None

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value.get_secret_value())
            _ = parts.port
        except ValueError as error:
            # What urlsplit says may quote the password.
            raise ValueError("is no URL; write redis://:PASSWORD@HOST:6379/0") from error
        if parts.scheme not in ("redis", "rediss", "redis+socket"):
            raise ValueError("must begin with redis://, rediss:// or redis+socket://")
        if "password=" in parts.query:
            raise ValueError("has its password in the query; write redis://:PASSWORD@HOST:6379/0")
        if parts.fragment or "#" in value.get_secret_value() or "@" in parts.path + parts.query:
            raise ValueError(f"cannot be taken apart: {_ENCODE}")
        return SecretStr(_with_database(parts))

    @field_validator("database_url")
    @classmethod
    def _known_database(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            url = make_url(value.get_secret_value())
        except (ArgumentError, ValueError):
            raise ValueError(
                "is no URL; write sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
            ) from None
        is_server = not url.drivername.startswith("sqlite")
        if is_server and any("@" in (part or "") for part in (url.host, url.database, str(url.query))):
            raise ValueError(f"cannot be taken apart: {_ENCODE}")
        unknown = [name for name in url.query if name not in _SQLITE_OPTIONS]
        if not is_server and unknown:
            raise ValueError(f"SQLite has no option {unknown[0]!a}; write a ? in a file's name as %3F")
        found = absolute_database(url)
        return value if found == url else SecretStr(found.render_as_string(hide_password=False))

    @field_validator("models")
    @classmethod
    def _known_models(cls, value: str | None) -> str | None:
        if value is None:
            return None
        if "://" not in value:
            try:
                return str(Path(value).expanduser().absolute())
            except RuntimeError as error:
                raise ValueError(f"{error}; write the whole path") from None
        try:
            parts = urlsplit(value)
            numbered = parts.port is not None
        except ValueError:
            raise ValueError(f"cannot be taken apart: {_ENCODE}") from None
        if "@" in parts.query + parts.fragment or ("@" in parts.path and numbered):
            raise ValueError(f"cannot be taken apart: {_ENCODE}")
        return value

    @property
    def database(self) -> str:
        """The ledger's URL, with its password."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        # A folder's name may hold %20, ? or #, which mean something else in a URL.
        path = str(self.home / "ledger.sqlite3")
        return URL.create("sqlite", database=path).render_as_string(hide_password=False)

    @property
    def broker(self) -> str | None:
        """The broker's URL, with its password."""
        return self.broker_url.get_secret_value() if self.broker_url is not None else None

    @property
    def model_store(self) -> str:
        """Path or URL of the model store."""
        return str(self.home / "models") if self.models is None else self.models

    @property
    def overlays(self) -> Path | RemoteFolder:
        return self.home / "overlays" if self.output is None else place_of(self.output)

    @property
    def identity_key(self) -> Path:
        """The file with the key of patients' hashes."""
        return self.identity_key_file or self.home / "identity.key"

    @property
    def worker_threads(self) -> int:
        """Threads to decode, and as many to render, of a process that has all processors for itself."""
        return self.threads or usable_processors()

    def worker_processes(self, *, on_cpu: bool) -> int:
        """Processes to decode and to render in, 1: the worker's own; `on_cpu`: the network runs there."""
        threads = self.worker_threads
        return self.processes or (1 if on_cpu and threads <= THREADS_ON_CPU else threads)

    @property
    def passwords(self) -> set[str]:
        """What may be written down nowhere, as it stands in the URLs and as it is meant."""
        found = {
            secret.get_secret_value()
            for secret in (self.dicomweb_token, self.dicomweb_password)
            if secret is not None and secret.get_secret_value()
        }
        for url in (self.broker, self.models):
            with suppress(ValueError):
                secret = urlsplit(url or "").password
                found |= {secret, unquote(secret)} if secret else set()
        with suppress(ArgumentError, ValueError):
            url_of_database = make_url(self.database)
            asked = (url_of_database.password, url_of_database.query.get("password"))
            found |= {
                form for text in asked if isinstance(text, str) for form in (text, quote(text, safe=""))
            }
        return found

    def apply_umask(self) -> None:
        """Have this process, and those it starts, create files with the permissions that `umask` leaves."""
        os.umask(int(self.umask, 8))

    def validate_combination(self) -> None:
        """Refuse what cannot work: a SQLite ledger with a broker on another machine."""
        if self.broker is None or not self.database.startswith("sqlite"):
            return
        parts = urlsplit(self.broker)
        host = parts.hostname or ""
        is_here = parts.scheme == "redis+socket" or host in _names_of_this_machine()
        if not is_here:
            raise SettingsError(
                f"XRAYCAM_BROKER_URL names another machine ({host}), but the ledger is the SQLite file "
                f"{make_url(self.database).database}, which only one machine can share; "
                "set XRAYCAM_DATABASE_URL=postgresql+psycopg://USER:PASSWORD@HOST/NAME"
            )

    def as_environment(self) -> dict[str, str]:
        """The settings as environment variables, for the processes we start."""
        values: dict[str, str] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if value is not None:
                text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
                values[PREFIX + name.upper()] = text
        return values


# Ours, but not settings: set by the launcher for its workers, and read by docker-compose.yml.
_NOT_SETTINGS = {"XRAYCAM_WORKER_NAME", "XRAYCAM_WORKER_QUEUE", "XRAYCAM_IMAGES"}


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process. Raises SettingsError naming the variable, its value and the fix."""
    known = [PREFIX + name.upper() for name in Settings.model_fields]
    for name in os.environ:
        # In whatever case, as settings are read; what is only ours has one.
        is_ours = name.upper().startswith(PREFIX)
        if is_ours and name.upper() not in known and name not in _NOT_SETTINGS:
            near = difflib.get_close_matches(name[len(PREFIX) :].lower(), Settings.model_fields, n=1)
            hint = f"; did you mean {PREFIX}{near[0].upper()}?" if near else f"; known are {', '.join(known)}"
            raise SettingsError(f"there is no setting {name}{hint}")
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        hidden = field.endswith(("_url", "_token", "_password")) or re.search(
            "@|://.*[?]", str(first["input"])
        )
        value = "(not shown)" if hidden else ascii(first["input"])[:200]
        message = " ".join(first["msg"].removeprefix("Value error, ").split())
        raise SettingsError(f"{PREFIX}{field.upper()}={value}: {message}") from None
    settings.validate_combination()
    return settings


def _with_database(parts: SplitResult) -> str:
    """A broker's URL in which Kombu and redis-py find the same database. Raises ValueError."""
    query = [
        (name, absolute_parameter(name, value))
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    ]
    named = {value for name, value in query if name in ("db", "virtual_host")}
    if parts.scheme != "redis+socket":
        number = parts.path.strip("/")
        if not re.fullmatch(r"[0-9]*", number) or named - {number or "0"}:
            raise ValueError("names no database by its number alone; write redis://HOST:6379/0")
        rest = [(name, value) for name, value in query if name not in ("db", "virtual_host")]
    else:
        numbers = {value.strip("/") for value in named}
        if len(numbers) > 1 or not all(re.fullmatch(r"[0-9]+", number) for number in numbers):
            raise ValueError(
                "names no database by its number alone; write redis+socket:///PATH?virtual_host=0"
            )
        rest = [(name, value) for name, value in query if name not in ("db", "virtual_host")]
        rest += [("virtual_host", number) for number in numbers]
    # urlunsplit leaves out the // of a scheme that it does not know.
    return f"{parts.scheme}://{parts.netloc}{parts.path}" + (f"?{urlencode(rest)}" if rest else "")


def _names_of_this_machine() -> set[str]:
    return {"", "localhost", "127.0.0.1", "::1", socket.gethostname(), socket.getfqdn()}
