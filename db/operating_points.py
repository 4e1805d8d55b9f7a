"""Thresholds of sites: each belongs to one site and one model version, and serves no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from db.dialect import insert_of, now
from db.schema import operating_points


@dataclass(frozen=True)
class SiteThreshold:
    """`figures`: the operating point, and the distributions of the site's images, in JSON's types."""

    site: str
    model_version: str
    threshold: float
    figures: dict[str, Any]
    created_at: datetime


def save_site_threshold(
    connection: Connection, *, site: str, model_version: str, threshold: float, figures: dict[str, Any]
) -> None:
    """Note the threshold of a site for a version, in place of an earlier one of the same two."""
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


def sites_without(connection: Connection, model_version: str) -> list[str]:
    """The sites that have a threshold for other versions but none for this one, by name."""
    having = select(operating_points.c.site).where(operating_points.c.model_version == model_version)
    statement = select(operating_points.c.site).where(operating_points.c.site.not_in(having)).distinct()
    return sorted(connection.execute(statement).scalars())
