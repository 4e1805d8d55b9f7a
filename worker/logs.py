"""Logs of workers and their supervisor: text or JSON lines that name the work, without passwords."""

from __future__ import annotations

import json
import logging
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from celery.signals import after_setup_logger, after_setup_task_logger
from pythonjsonlogger.json import JsonFormatter

from worker.settings import Settings, load_settings


def worker_name() -> str:
    """The name the launcher gave; without a launcher, process number and host."""
    return os.environ.get("XRAYCAM_WORKER_NAME") or f"{os.getpid()}@{socket.gethostname()}"


# A worker does one chunk at a time, in several threads; so this is of the process, not of a thread.
_log_fields: dict[str, Any] = {}

# Shorter ones are hidden no more than they protect.
_SHORTEST_SECRET = 4


@contextmanager
def log_context(**what: Any) -> Iterator[None]:
    """Give what is logged in this block, by any thread, these fields: `run`, `chunk`, `image`."""
    before = dict(_log_fields)
    _log_fields.update(what)
    try:
        yield
    finally:
        _log_fields.clear()
        _log_fields.update(before)


class _Redacted(logging.Formatter):
    """Another formatter's text without the passwords: libraries put addresses into their messages."""

    def __init__(self, inner: logging.Formatter, secrets: Iterable[str]) -> None:
        super().__init__()
        self._inner = inner
        known = {secret for secret in secrets if len(secret) >= _SHORTEST_SECRET}
        forms = known | {quote(secret, safe="") for secret in known}
        forms |= {json.dumps(secret)[1:-1] for secret in known}
        self._secrets = sorted(forms, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        text = self._inner.format(record)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


class _JsonLines(JsonFormatter):
    def add_fields(
        self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]
    ) -> None:
        super().add_fields(log_data, record, message_dict)
        log_data.pop("data", None)  # of Celery's events: the message once more
        for name, value in {"worker": worker_name(), **_log_fields}.items():
            log_data.setdefault(name, value)


def make_formatter(settings: Settings, text: logging.Formatter | None = None) -> logging.Formatter:
    """How log records are written; `text`: the form to use unless JSON is asked for."""
    if settings.log_format == "json":
        inner: logging.Formatter = _JsonLines(
            ["levelname", "name", "process", "message"],
            rename_fields={"levelname": "level", "name": "logger"},
            timestamp="time",
            json_ensure_ascii=False,
        )
    else:
        inner = text or logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    return _Redacted(inner, settings.passwords)


def start_logging(settings: Settings) -> None:
    """Log to standard error, in a process that is not Celery's."""
    handler = logging.StreamHandler()
    handler.setFormatter(make_formatter(settings))
    logging.basicConfig(level=settings.log_level, handlers=[handler])


@after_setup_logger.connect
@after_setup_task_logger.connect
def _format_celery_logs(logger: logging.Logger, **_: Any) -> None:
    settings = load_settings()
    for handler in logger.handlers:
        if not isinstance(handler.formatter, _Redacted):
            handler.setFormatter(make_formatter(settings, handler.formatter))
