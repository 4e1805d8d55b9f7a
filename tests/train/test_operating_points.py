"""Thresholds and what they give: against values worked out by hand."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from db.operating_points import SiteThreshold
from producer.commands.calibrate import _by_subgroup, _lines, _over_thresholds
from worker.train.calibration import CalibrationError, measure, read_groups, without_choosing_images
from worker.train.dataset import LabelledDataset
from worker.train.held_out import pack_digests
from worker.train.metrics import fit_temperature
from worker.train.operating_points import (
    distribution,
    operating_point,
    positive_scores,
    rates,
    threshold_for,
)
from worker.train.screening import every_threshold, screening

ILL = np.array([True, True, True, True, True, False, False, False, False, False])
SCORES = np.array([90.0, 80.0, 70.0, 40.0, 10.0, 60.0, 40.0, 30.0, 20.0, 5.0])


def test_the_threshold_is_the_highest_that_refers_enough_of_the_ill() -> None:
    # Four of five ill ones score 40 or more; the next lower score is 30.
    assert threshold_for(ILL, SCORES, ("sensitivity", 0.8)) == 35.0
    assert threshold_for(ILL, SCORES, ("sensitivity", 0.81)) == 7.5
    assert threshold_for(ILL, SCORES, ("sensitivity", 1.0)) == 7.5
    # Three of five well ones score below 40, and so do four below 60.
    assert threshold_for(ILL, SCORES, ("specificity", 0.6)) == 35.0
    assert threshold_for(ILL, SCORES, ("specificity", 0.8)) == 50.0
    assert rates(ILL, SCORES, 35.0) == (0.8, 0.6)


def test_the_threshold_has_as_few_decimals_as_tell_the_scores_beside_it_apart() -> None:
    for gap, expected in ((20.0, 28.1), (0.4, 28.1), (0.04, 28.12), (0.0004, 28.1235)):
        scores = np.array([28.12346 + gap / 2, 28.12346 - gap / 2, 5.0])
        found = threshold_for(np.array([True, False, False]), scores, ("sensitivity", 1.0))
        assert found == expected
        # As far from both as rounding by others can be.
        assert scores[1] + gap / 4 <= found <= scores[0] - gap / 4


def test_an_operating_point_gives_what_was_aimed_at_within_its_intervals() -> None:
    point = operating_point(ILL, SCORES, ("sensitivity", 0.8))
    assert (point.name, point.threshold, point.sensitivity, point.specificity) == (
        "sensitivity-80", 35.0, 0.8, 0.6,
    )  # fmt: skip
    assert point.sensitivity_interval == pytest.approx((0.3755, 0.9638), abs=1e-4)  # Wilson of 4 of 5
    assert point.specificity_interval == pytest.approx((0.2307, 0.8824), abs=1e-4)  # of 3 of 5
    # Five of whom a fifth score less: no ill one below the true threshold in 0.8**5, a third of all cases, so
    # that nothing bounds it from below; three or more in 0.06, four or more in 0.007: the fourth bounds it.
    assert point.threshold_interval == (0.0, 80.0)
    assert (point.positive_images, point.negative_images) == (5, 5)


def test_few_images_without_a_mistake_are_not_certain() -> None:
    ill = np.arange(9) < 5
    point = operating_point(ill, np.where(ill, 90.0, 10.0), ("sensitivity", 0.9))
    # Wilson of n of n: from n / (n + 1.96**2) to 1.
    assert point.sensitivity_interval == pytest.approx((5 / (5 + 3.8415), 1.0), abs=1e-4)
    assert point.specificity_interval == pytest.approx((4 / (4 + 3.8415), 1.0), abs=1e-4)


def test_the_threshold_for_specificity_is_bounded_by_scores_of_negative_images() -> None:
    scores = np.concatenate([np.arange(1.0, 41.0), np.full(10, 90.0)])
    point = operating_point(np.arange(50) >= 40, scores, ("specificity", 0.7))
    # Of 40, of whom each is below the true threshold with 0.7, between 22 and 33 are in 19 of 20 cases.
    assert point.threshold_interval == (22.0, 34.0)
    assert point.threshold == 28.5


def test_predictive_values_are_as_counted_among_a_thousand_people() -> None:
    # Of 1,000 at 5%: 50 ill, 45 of them referred; 950 well, 285 of them referred.
    found = screening(35.0, 0.9, 0.7, 0.05, (0.8, 1.0), (0.6, 0.8))
    assert found.ppv == pytest.approx(45 / 330)
    assert found.npv == pytest.approx(665 / 670)
    assert found.missed == pytest.approx(5)
    assert found.referred == pytest.approx(330)
    # 40 ill and 380 well ones referred at one end, 50 and 190 at the other.
    assert found.ppv_interval == pytest.approx((40 / 420, 50 / 240))
    assert found.npv_interval == pytest.approx((570 / 580, 1.0))
    assert found.missed_interval == pytest.approx((0, 10))
    assert found.referred_interval == pytest.approx((40 + 190, 50 + 380))
    assert screening(100.0, 0.0, 1.0, 0.05, (0.0, 0.1), (0.9, 1.0)).ppv is None
    assert screening(0.0, 1.0, 0.0, 0.05, (0.9, 1.0), (0.0, 0.1)).npv is None


def test_every_threshold_agrees_with_counting_at_it() -> None:
    rows = every_threshold(ILL, SCORES, 0.1)
    assert [row.threshold for row in rows] == sorted(set(SCORES.tolist()), reverse=True)
    for row in rows:
        assert (row.sensitivity, row.specificity) == pytest.approx(rates(ILL, SCORES, row.threshold))
    # The second highest refers two of five ill ones and none of five well ones.
    assert rows[1].sensitivity_interval == pytest.approx((0.1176, 0.7693), abs=1e-4)
    assert rows[1].specificity_interval == pytest.approx((0.5655, 1.0), abs=1e-4)
    assert rows[1].columns["specificity_low"] == rows[1].specificity_interval[0]


def test_the_temperature_is_that_of_a_direct_search() -> None:
    random = np.random.default_rng(3)
    labels = random.integers(0, 2, 300)
    logits = 3.0 * random.normal(size=(300, 2)) + 4.0 * np.eye(2)[labels]
    candidates = np.exp(np.linspace(np.log(0.05), np.log(20), 6000))

    def loss(temperature: float) -> float:
        odds = (logits[:, 1] - logits[:, 0]) / temperature
        probability = 1 / (1 + np.exp(-np.where(labels == 1, odds, -odds)))
        return float(-np.log(probability).mean())

    best = min(candidates, key=loss)
    assert fit_temperature(labels, logits) == pytest.approx(best, rel=2e-3)
    score = positive_scores(logits, 1, 2.0)
    assert score == pytest.approx(100 / (1 + np.exp((logits[:, 0] - logits[:, 1]) / 2.0)))


def test_subgroups_are_measured_at_the_threshold_of_all() -> None:
    women = np.arange(10) % 2 == 0
    found = measure(ILL, SCORES, ("sensitivity", 0.8), 0.05, {("sex", "F"): women})
    (group,) = found.subgroups
    # Ill women score 90, 70 and 10; well ones 40 and 20.
    assert (group.positive_images, group.negative_images) == (3, 2)
    assert group.sensitivity == pytest.approx(2 / 3)
    assert group.specificity == pytest.approx(1 / 2)
    ill_only = measure(ILL, SCORES, ("sensitivity", 0.8), 0.05, {("sex", "M"): ILL & ~women}).subgroups[0]
    assert ill_only.sensitivity_interval == pytest.approx((2 / (2 + 3.8415), 1.0), abs=1e-4)
    assert (ill_only.specificity, ill_only.specificity_interval) == (None, None)
    checked = measure(ILL, SCORES, ("sensitivity", 0.8), 0.05, {}, threshold=50.0)
    assert (checked.point.threshold, checked.point.sensitivity) == (50.0, 0.6)


def test_groups_are_read_by_path_or_name_and_refused_where_unclear(tmp_path: Path) -> None:
    files = [tmp_path / "d" / name for name in ("ill/a.png", "ill/b.png", "well/b.png", "well/c.png")]
    dataset = LabelledDataset(
        root=tmp_path / "d", classes=("ill", "well"), files=tuple(files), labels=(0, 0, 1, 1),
        sha256=("1", "2", "3", "4"), groups=(0, 1, 2, 3), skipped=(), images=None,
    )  # fmt: skip
    table = tmp_path / "groups.csv"
    table.write_text("path,age,sex\na.png,14,F\nill/b.png,15,\nwell/b.png,80,M\n")
    said: list[str] = []
    found = {key: value.tolist() for key, value in read_groups(table, dataset, said.append).items()}
    assert found == {
        ("age", "00 to 14"): [True, False, False, False],
        ("age", "15 to 34"): [False, True, False, False],
        ("age", "75 and older"): [False, False, True, False],
        ("sex", "F"): [True, False, False, False],
        ("sex", "M"): [False, False, True, False],
    }
    assert said == [f"--groups {table}: says nothing of 1 of 4 images"]
    table.write_text("Path, AGE,sex ,ward\na.png,14,F,3\na.png,14,,\nill/b.png,15,,2\nwell/b.png,80,M,\n")
    again = read_groups(table, dataset, said.append)
    assert {key: value.tolist() for key, value in again.items()} == found, "names in any case, spaces around"
    assert said[1:] == [f"--groups {table}: columns not used: ward", said[0]]
    for content, words in (
        ("path,age\nb.png,3\n", "is the name of 2 images"),
        ("path,age\na.png,old\n", "age old is no number of years"),
        ("path,age\na.png,nan\n", "age nan is no number of years; leave it empty"),
        ("path,age\na.png,inf\n", "age inf is no number of years"),
        ("path,age\na.png,-3\n", "age -3 is no number of years"),
        ("path,sex\na.png,F\nill/a.png,M\n", "says sex F and M of ill/a.png; an image is in one subgroup"),
        ("path,age,Age\na.png,3,4\n", "two columns are called age"),
        ("path,age\nz.png,3\n", "names none of the 4 images"),
        ("file,age\na.png,3\n", "needs a column path"),
    ):
        table.write_text(content)
        with pytest.raises(CalibrationError, match=words):
            read_groups(table, dataset)


def test_a_threshold_is_not_checked_on_the_images_that_chose_it(tmp_path: Path) -> None:
    digests = tuple(f"{number:02x}" + 62 * "0" for number in range(4))
    dataset = LabelledDataset(
        root=tmp_path, classes=("ill", "well"), files=tuple(tmp_path / d for d in digests),
        labels=(0, 0, 1, 1), sha256=digests, groups=(0, 1, 2, 3), skipped=(), images=None,
    )  # fmt: skip

    def saved(**figures: str) -> SiteThreshold:
        return SiteThreshold("north", "one", 40.0, figures, datetime.now(UTC))

    said: list[str] = []
    kept = without_choosing_images(dataset, saved(measured_on=pack_digests(digests[1:3])), said.append)
    assert kept.sha256 == (digests[0], digests[3])
    assert said == ["warning: 2 of these 4 images chose the threshold of site north; they are left out"]
    with pytest.raises(CalibrationError, match="4 of these 4 images chose the threshold of site north"):
        without_choosing_images(dataset, saved(measured_on=pack_digests(digests)), said.append)
    other = saved(measured_on=pack_digests(["f" * 64]))
    assert without_choosing_images(dataset, other, said.append) is dataset
    assert without_choosing_images(dataset, saved(), said.append) is dataset
    assert "does not say which images it was chosen on" in said[-1]
    found = measure(ILL, SCORES, ("sensitivity", 0.8), 0.05, {})
    assert replace(found, measured_on="abcd").figures["measured_on"] == "abcd"


def test_a_distribution_has_a_tenth_of_its_own_values_in_each_bin() -> None:
    found = distribution(np.arange(100.0))
    assert found is not None
    assert found.shares == pytest.approx([0.1] * 10)
    assert distribution(np.ones(50)) is None


def test_what_calibrate_prints_can_be_typed_back() -> None:
    found = measure(ILL, SCORES, ("sensitivity", 0.8), 0.05, {("sex", "F"): ILL}, threshold=34.9731)
    stream = io.StringIO()
    for table in (_over_thresholds(found, "tb-3"), _by_subgroup(found)):
        table.print(Console(file=stream, width=200))
    assert "* 34.9731" in stream.getvalue()
    assert "at 34.9731, by subgroup" in stream.getvalue()
    assert _lines(found, is_check=True, has_prevalence=True)[0] == "the saved threshold: 34.9731"
