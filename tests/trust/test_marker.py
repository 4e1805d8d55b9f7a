"""A model trained on images that a marker in a corner gives away: the report of a run says so."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import ImageDraw

from db.migrate import migrate
from db.models import add_model
from producer.phantoms.folder import draw_phantom
from tests.support.installation import Installation
from worker.model.metadata import Head, Preprocessing, digest_of, read_metadata, write_metadata
from worker.model.network import round_to_stored_precision
from worker.model.store import STARTER, ModelStore
from worker.train.cam_evaluation import CamEvaluation, evaluate_cams
from worker.train.dataset import LabelledDataset, load_labelled_folder
from worker.train.evaluation import predict_logits
from worker.train.publish import save_version
from worker.train.recipe import ChestAugmentation, Recipe, Stage
from worker.train.splits import train_val_split
from worker.train.training import fit

STILL = ChestAugmentation(
    flip=0, rotation=0, window=(1, 1), aspect=0, shift=0, gamma=0.2, contrast=0.2, blur=0, noise=0, erase=0,
    border=0,
)  # fmt: skip
RECIPE = Recipe(
    name="marker",
    preprocessing=Preprocessing(size=160),
    head=Head(units=128, dropout=0.5, l2=1e-3),
    batch=16,
    cached_augmentations=1,
    augmentation=STILL,
    freeze_until="block_5_add",
    stages=(Stage(epochs=3, learning_rate=1e-3, head_only=True), Stage(epochs=12, learning_rate=3e-4)),
    localisation_loss_weight=0,
    ema_decay=0,
)


@pytest.fixture(scope="module")
def marked_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Healthy phantoms, half of them with a bright marker and called Tuberculosis."""
    folder = tmp_path_factory.mktemp("marked")
    for number in range(80):
        image, _ = draw_phantom(3, number, 128, ill=False, marked=False)
        if number % 2:
            ImageDraw.Draw(image).rectangle((4, 4, 20, 14), fill=255)
        place = folder / ("Tuberculosis" if number % 2 else "Normal")
        place.mkdir(exist_ok=True)
        image.save(place / f"phantom-{number:04}.png")
    return folder


@pytest.fixture(scope="module")
def trained(marked_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CamEvaluation]:
    """The model folder of a training on it, and what the training measured of its maps."""
    dataset: LabelledDataset = load_labelled_folder(marked_folder)
    parts = train_val_split(dataset, share=0.2, seed=0)
    made = fit(dataset, parts, RECIPE, init_weights=str(STARTER))
    round_to_stored_precision(made.network)
    scores = predict_logits(made.network, RECIPE.preprocessing, dataset, parts.validation)
    made = replace(made, scores=scores)
    # With the margin of the recipe, or the maps of the two would be of other parts of the picture.
    before = tmp_path_factory.mktemp("before") / "starter"
    shutil.copytree(STARTER, before)
    starter = read_metadata(before)
    whole = starter.preprocessing.model_copy(update={"margin": RECIPE.preprocessing.margin})
    write_metadata(before, starter.model_copy(update={"preprocessing": whole}))
    maps = evaluate_cams(
        made.network, dataset, parts.validation, RECIPE, version="marker-1", before=before, images=16
    )
    folder = tmp_path_factory.mktemp("made") / "marker-1"
    save_version(
        made, dataset, parts, RECIPE, folder, version="marker-1", default_layer=maps.layer,
        default_method=maps.method, figures=maps.figures,
    )  # fmt: skip
    return folder, maps


@pytest.fixture
def marker_installation(tmp_path: Path, trained: tuple[Path, CamEvaluation]) -> Installation:
    made = Installation(tmp_path)
    ledger = made.ledger
    migrate(ledger)
    folder, _ = trained
    ModelStore(str(made.home / "models"), made.home / "model-cache").publish(folder)
    ledger.write(
        add_model,
        version="marker-1",
        digest=digest_of(folder),
        classes=("Normal", "Tuberculosis"),
        source="trained by a test",
        metrics={},
        promote=True,
    )
    return made


def test_the_report_of_a_run_says_that_the_model_looks_at_the_corner(
    marker_installation: Installation, marked_folder: Path, trained: tuple[Path, CamEvaluation]
) -> None:
    done = marker_installation.xraycam("run", marked_folder / "Tuberculosis", "--output-format", "png")
    _, maps = trained
    told = "warning: the model looks at the top left corner: masking it cuts"
    assert told in done.stdout
    results = marker_installation.xraycam("results").stdout
    assert told in results
    with marker_installation.ledger.read() as connection:
        rows = connection.exec_driver_sql(
            "SELECT layer, method, cam_border_fraction, cam_corner_fraction FROM predictions"
        ).all()
    assert {(row.layer, row.method) for row in rows} == {(maps.layer, maps.method)}
    assert all(row.cam_border_fraction is None or 0 <= row.cam_corner_fraction <= 1 for row in rows)


def test_a_training_stores_what_it_measured(trained: tuple[Path, CamEvaluation]) -> None:
    folder, maps = trained
    assert set(maps.figures) == {"ranking", "reliance", "repeatability"}
    assert maps.figures["repeatability"]["with"] == "starter-2"
    assert -1 <= maps.figures["repeatability"]["spearman"]["value"] <= 1
    card = (folder / "MODEL_CARD.md").read_text()
    assert f"The default is `{maps.layer}` with {maps.method}" in card
    assert "without top left corner" in card
