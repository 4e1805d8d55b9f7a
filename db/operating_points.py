"""Thresholds of sites: each belongs to one site and one model version, and serves no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from db.dialect import insert_of, now
from db.errors import ModelNotFound
from db.schema import models, operating_points


@dataclass(frozen=True)
class SiteThreshold:
    """`figures`: the operating point, and the distributions of the site's images, in JSON's types."""

    site: str
    model_version: str
    threshold: float
    figures: dict[str, Any]
    created_at: datetime


def save_site_threshold(
    connection: Connection,
    *,
    site: str,
    model_version: str,
    digest: str,
    threshold: float,
    figures: dict[str, Any],
) -> None:
    """Note the threshold of a site for a version, in place of an earlier one of the same two.

    `digest`: that of the model it was measured with. Raises ModelNotFound where the version is no longer
    that model.
    """
    registered = select(models.c.digest).where(models.c.version == model_version).with_for_update()
    if connection.execute(registered).scalar() != digest:
        raise ModelNotFound(
            f"model {model_version} was deleted or replaced while its threshold was measured, which is not "
            f"saved; 'xraycam models' lists the models: calibrate anew"
        )
    insert = insert_of(connection.dialect.name)
    changed = {"threshold": threshold, "figures": figures, "created_at": now()}
    statement = insert(operating_points).values(site=site, model_version=model_version, **changed)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["site", "model_version"], set_=changed)
    )


def site_threshold(connection: Connection, site: str, model_version: str) -> SiteThreshold | None:
    """That of a site for a version, or None."""
    row = connection.execute(
        select(operating_points).where(
            operating_points.c.site == site, operating_points.c.model_version == model_version
        )
    ).first()
    return None if row is None else SiteThreshold(**row._mapping)


def versions_of_site(connection: Connection, site: str) -> list[str]:
    """The versions that a site has a threshold for, by name."""
    statement = select(operating_points.c.model_version).where(operating_points.c.site == site)
    return sorted(connection.execute(statement).scalars())


def sites_of_version(connection: Connection, model_version: str) -> list[str]:
    """The sites that have a threshold for this version, by name."""
    statement = select(operating_points.c.site).where(operating_points.c.model_version == model_version)
    return sorted(connection.execute(statement).scalars())


def sites_without(connection: Connection, model_version: str) -> list[str]:
    """The sites that have a threshold for other versions but none for this one, by name."""
    having = select(operating_points.c.site).where(operating_points.c.model_version == model_version)
    statement = select(operating_points.c.site).where(operating_points.c.site.not_in(having)).distinct()
    return sorted(connection.execute(statement).scalars())
