"""Where the heat of a run lies, by class; and what an older ledger becomes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from made_runs import finish, lease
from sqlalchemy import inspect, text

import db.ledger
from db.leases import record_results
from db.ledger import Ledger
from db.migrate import migrate
from db.results import heat_by_class, versions_used
from db.runs import Run


def test_heat_is_averaged_by_class_and_blank_maps_are_only_counted(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    shares = [
        ("Ill", 0.4, 0.2, 0.1),
        ("Ill", 0.6, 0.4, None),
        ("Ill", None, None, None),
        ("Well", 0.5, 0.3, None),
    ]
    record_results(
        ledger,
        held,
        [
            {
                "image_id": image.id, "status": "done", "explained_class": name, "model_version": "first",
                "heat_border": border, "heat_corner": corner, "heat_marked": marked,
            }
            for image, (name, border, corner, marked) in zip(held.images, shares, strict=True)
        ],
    )  # fmt: skip
    finish(ledger, lease(ledger, run_of_ten, 2), "failed", reason="empty")
    ill, well = heat_by_class(ledger, run_of_ten.id)
    assert (ill.class_name, ill.images, ill.blank) == ("Ill", 2, 1)
    assert (ill.border, ill.corner) == (pytest.approx(0.5), pytest.approx(0.3))
    assert (ill.marked, ill.marked_images) == (pytest.approx(0.1), 1)
    assert (well.images, well.blank, well.marked) == (1, 0, None)
    assert versions_used(ledger, run_of_ten.id) == ["first"]


def test_several_methods_fit_into_a_row(ledger: Ledger, run_of_ten: Run) -> None:
    methods = "gradcam,gradcam++,hirescam,layercam,xgradcam,eigencam,scorecam"
    finish(ledger, lease(ledger, run_of_ten, 1), method=methods)
    with ledger.read() as connection:
        assert connection.execute(text("SELECT DISTINCT method FROM results")).scalars().all() == [methods]


def test_results_of_an_older_ledger_survive_the_migration(empty_url: str) -> None:
    ledger = Ledger(empty_url)
    config = Config()
    folder = Path(db.ledger.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder).replace("%", "%%"))

    def older(connection: Any) -> None:
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")

    ledger.write(older)
    moment = "2025-01-01 00:00:00"
    rows = (
        "INSERT INTO runs (id, root, output, options, signature, serial, chunk_size, state, created_at) "
        f"VALUES (1, '/a', '/o', '{{}}', 's', 0, 4, 'open', '{moment}')",
        "INSERT INTO images (id, run_id, chunk, path, size, modified_ns) VALUES (1, 1, 1, 'x.png', 1, 1)",
        "INSERT INTO results (image_id, run_id, status, method, layer, heatmap_max, finished_at) "
        f"VALUES (1, 1, 'done', 'gradcam', 'out_relu', '{{\"out_relu\": 2.5}}', '{moment}')",
    )

    def fill(connection: Any) -> None:
        for row in rows:
            connection.exec_driver_sql(row)

    ledger.write(fill)
    assert migrate(ledger)
    with ledger.read() as connection:
        (found,) = connection.execute(text("SELECT * FROM predictions")).mappings().all()
        indexes = {index["name"] for index in inspect(connection).get_indexes("results")}
        keys = {key["referred_table"] for key in inspect(connection).get_foreign_keys("results")}
    assert (found["path"], found["method"], found["heat_border"]) == ("/a/x.png", "gradcam", None)
    assert indexes == {"results_status", "results_class"}
    assert keys == {"images", "runs"}
    ledger.close()
