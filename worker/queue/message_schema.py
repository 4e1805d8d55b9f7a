"""What a message must look like for a worker to take it: as we send it, and in no other way.

Celery trusts its broker: a message out of shape ends its main process, comes back when that is started
again, and so ends one worker after the other. So each is checked before Celery sees it.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from worker.file_names import printable
from worker.queue.messages import EXPLAIN_CHUNK, TRAIN

# What the ledger's columns can hold.
_Key = Annotated[int, Field(ge=1, lt=2**63)]
_Number = Annotated[int, Field(ge=1, lt=2**31)]
_Text = Annotated[str, Field(max_length=20_000)]
_Short = Annotated[str, Field(max_length=255)]
_None = tuple[()]

# A message that is to wait does so in a worker's memory. Ours never do, those of other releases for minutes.
_LONGEST_WAIT = timedelta(hours=2)


class InvalidMessage(Exception):
    """Raised for a message that is not one of ours; says in one line what is wrong."""


def _eta_within_limit(value: str) -> str:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None or moment - datetime.now(moment.tzinfo) > _LONGEST_WAIT:
        raise ValueError("lies too far ahead, or has no time zone")
    return value


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Chunk(_Strict):
    run: _Key
    chunk: _Number


class _Training(_Strict):
    training: _Key


class _Embed(_Strict):
    """Tasks that a message would have started after its own: none."""

    callbacks: None = None
    errbacks: None = None
    chain: None = None
    chord: None = None


class _Headers(BaseModel):
    # Those that Celery acts upon; it adds others, which differ from version to version.
    model_config = ConfigDict(strict=True, extra="ignore")

    task: Literal["xraycam.explain_chunk", "xraycam.train"]
    id: _Short
    root_id: _Short | None = None
    parent_id: _Short | None = None
    argsrepr: _Text
    kwargsrepr: _Text
    retries: Annotated[int, Field(ge=0, lt=2**31)] = 0
    eta: Annotated[_Short, AfterValidator(_eta_within_limit)] | None = None
    expires: None = None
    timelimit: list[None] | None = Field(default=None, min_length=2, max_length=2)
    group: None = None
    shadow: None = None
    stamped_headers: None = None
    compression: None = None


class _DeliveryInfo(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    exchange: _Short
    routing_key: _Short


class _Properties(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    delivery_tag: _Short
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"]
    correlation_id: _Short | None = None
    reply_to: _Short | None = None
    priority: Annotated[int, Field(ge=0, le=9)] = 0


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    body: _Text
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


_BODIES: dict[str, TypeAdapter[Any]] = {
    EXPLAIN_CHUNK: TypeAdapter(tuple[_None, _Chunk, _Embed]),
    TRAIN: TypeAdapter(tuple[_None, _Training, _Embed]),
}


def check_message(message: object) -> None:
    """Raises InvalidMessage unless a decoded message names work of ours, and nothing else."""
    try:
        found = _Message.model_validate(message)
        _BODIES[found.headers.task].validate_json(base64.b64decode(found.body, validate=True))
    except ValidationError as error:
        raise InvalidMessage(_explained(error)) from None
    except ValueError:
        raise InvalidMessage("body: no base64") from None


def check_envelope(message: object) -> None:
    """Raises InvalidMessage for what is no message at all, whichever task or command it may name."""
    properties = message.get("properties") if isinstance(message, dict) else None
    tag = properties.get("delivery_tag") if isinstance(properties, dict) else None
    if not isinstance(tag, str):
        raise InvalidMessage("it is no message of Celery's")


def _explained(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=True)[0]
    where = ".".join(str(part) for part in first["loc"])
    return printable(f"{where}: {first['msg']}: {first['input']!r}"[:2000])[:300]
