"""Where the attribution of a run lies, by class."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from db.leases import record_results
from db.ledger import Ledger
from db.results import attribution_by_class, model_versions_of_run
from db.runs import Run
from tests.support.made_runs import finish, lease


def test_heat_is_averaged_by_class_and_blank_maps_are_only_counted(ledger: Ledger, run_of_ten: Run) -> None:
    held = lease(ledger, run_of_ten, 1)
    shares = [
        ("Ill", 0.4, 0.2, 0.1),
        ("Ill", 0.6, 0.4, None),
        ("Ill", None, None, None),
        ("Well", 0.5, 0.3, None),
    ]
    ledger.write(record_results,
        held,
        [
            {
                "image_id": image.id, "status": "done", "target_class": name, "model_version": "first",
                "cam_border_fraction": border, "cam_corner_fraction": corner, "cam_mask_fraction": marked,
            }
            for image, (name, border, corner, marked) in zip(held.images, shares, strict=True)
        ],
    )  # fmt: skip
    finish(ledger, lease(ledger, run_of_ten, 2), "failed", reason="empty")
    ill, well = ledger.query(attribution_by_class, run_of_ten.id)
    assert (ill.class_name, ill.images, ill.blank) == ("Ill", 2, 1)
    assert (ill.border, ill.corner) == (pytest.approx(0.5), pytest.approx(0.3))
    assert (ill.marked, ill.marked_images) == (pytest.approx(0.1), 1)
    assert (well.images, well.blank, well.marked) == (1, 0, None)
    assert ledger.query(model_versions_of_run, run_of_ten.id) == ["first"]


def test_several_methods_fit_into_a_row(ledger: Ledger, run_of_ten: Run) -> None:
    methods = "gradcam,gradcam++,hirescam,layercam,xgradcam,eigencam,scorecam"
    finish(ledger, lease(ledger, run_of_ten, 1), method=methods)
    with ledger.read() as connection:
        assert connection.execute(text("SELECT DISTINCT method FROM results")).scalars().all() == [methods]
