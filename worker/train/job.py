"""The work of one training: read, fit, measure, judge, publish."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from db.ledger import Ledger
from db.models import current_model, get_model
from db.operating_points import sites_without
from db.trainings import PUBLISHING, Training, finish_training, record_epoch, set_stage
from db.workers import update_worker
from worker.errors import XraycamError
from worker.images.reader import limits_of
from worker.model.doubts import doubts
from worker.model.earlier_words import said_of_earlier
from worker.model.metadata import read_metadata
from worker.model.network import round_to_stored_precision
from worker.model.store import store_of
from worker.queue.reload import broadcast_reload
from worker.serve.guards import LeaseRenewer
from worker.settings import Settings
from worker.train.annotations import FindingAnnotations, find_annotations
from worker.train.cam_evaluation import evaluate_cams, unsaved_metadata
from worker.train.check_fitting import fit_check
from worker.train.dataset import NO_GROUPS, DatasetError, LabelledDataset, PatientUnknown
from worker.train.earlier_training import (
    EarlierTraining,
    earlier_training,
    without_learned,
)
from worker.train.evaluation import EvaluationResult, copies_said, measured, predict_logits
from worker.train.held_out import in_digests
from worker.train.labels import LabelSource, left_out_lines, load_labels
from worker.train.options import TrainOptions, version_name
from worker.train.promotion import decide_promotion
from worker.train.publish import find_finished_build, publish, write_version
from worker.train.recipe import Recipe
from worker.train.splits import Split, train_val_split
from worker.train.stage_progress import StageProgress
from worker.train.training import Epoch, TrainingResult, TrainingStopped, fit
from worker.train.training_callbacks import epochs_in

log = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint.safetensors"


class Diverged(XraycamError):
    """Raised when a loss is not a number."""


class TrainingJob:
    """A training that is ours for as long as `keeper` says so."""

    def __init__(
        self, settings: Settings, ledger: Ledger, owner: str, training: Training, keeper: LeaseRenewer
    ) -> None:
        self.settings = settings
        self.ledger = ledger
        self.owner = owner
        self.training = training
        self.keeper = keeper
        self.recipe = Recipe.model_validate(training.recipe)
        self.options = TrainOptions.model_validate(training.options)
        self.store = store_of(settings)
        self.folder = settings.home / "trainings" / str(training.id)
        self.history = list(training.history)
        self.lease_lost = False

    def run(self) -> None:
        """Do all of it. Raises TrainingStopped once the training is no longer ours, publishing nothing."""
        self._enter_stage("reading")
        dataset = self._scan(self.training.dataset)
        for line in (*left_out_lines(dataset.skipped), *dataset.passed_over):
            log.warning("training %d: %s", self.training.id, line)
        if self.options.positive is not None and self.options.positive not in dataset.classes:
            raise DatasetError(
                f"--positive {self.options.positive}: the classes are {', '.join(dataset.classes)}"
            )
        parts, earlier = self._parts(dataset)
        test = self._test_part(dataset, earlier)
        ready = find_finished_build(self.folder, self.options)
        if ready is None:
            regions = self._regions(dataset)
            if len(self.history) < self.recipe.epochs:
                self._enter_stage("first epoch" if not self.history else "next epoch")
            trained = self._fit(dataset, parts, regions)
            self._enter_stage("measuring")
            round_to_stored_precision(trained.network)
            tell, count = self._progress_of("measuring"), len(parts.validation)
            scores = predict_logits(
                trained.network,
                self.recipe.preprocessing,
                dataset,
                parts.validation,
                lambda done: tell(done, count),
            )
            trained = replace(trained, scores=scores, earlier=earlier)
            version = version_name(self.ledger, self.store, self.training, self.options)
            validation = measured(
                dataset, parts.validation, trained.scores, positive_class=self.options.positive
            )
            for doubt in doubts(validation.figures):
                log.warning("training %d: %s", self.training.id, doubt)
            tested = self._tested(test, trained, validation)
            self._enter_stage("ranking maps")
            maps = evaluate_cams(
                trained.network,
                dataset,
                parts.validation,
                self.recipe,
                version=version,
                positive_class=self.options.positive,
                before=self._served(),
                progress=self._progress_of("ranking maps"),
            )
            self._enter_stage("input check")
            check = fit_check(
                unsaved_metadata(
                    trained.network, dataset.classes, self.recipe, version, output=dataset.output
                ),
                trained.network,
                dataset,
                parts.training,
                parts.validation,
                seed=self.recipe.seed,
                progress=self._progress_of("input check", "picture"),
            )
            self._enter_stage("writing")
            ready = write_version(
                self.folder,
                version,
                trained,
                parts,
                self.recipe,
                validation,
                tested,
                regions,
                maps,
                self.options.source,
                check,
                self.options.positive,
            )
        self._enter_stage("comparing")
        auc = read_metadata(ready).training["validation"]["auc"]
        promotion_reason = decide_promotion(
            auc, self.options, self.ledger, self.store, dataset, parts.validation, ready
        )
        if promotion_reason.promote:
            promotion_reason = replace(
                promotion_reason, reason=promotion_reason.reason + self._uncalibrated_sites(ready)
            )
        self._enter_stage(PUBLISHING)  # from here on it cannot be cancelled
        source = f"training {self.training.id} on {self.training.dataset}"
        version = publish(
            self.ledger, self.store, ready, source=source, promote=promotion_reason.promote
        ).version
        self.ledger.write(
            finish_training, self.training, version=version, promotion_reason=promotion_reason.reason
        )
        if promotion_reason.promote:
            broadcast_reload(self.settings)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _uncalibrated_sites(self, ready: Path) -> str:
        """Which sites have a threshold for other versions only, to add to a sentence; often none."""
        sites = self.ledger.query(sites_without, read_metadata(ready).version)
        return f"; without a threshold for {', '.join(sites)}: see 'xraycam calibrate'" if sites else ""

    def _served(self) -> Path | None:
        """The folder of the version served so far, if it can be had."""
        try:
            model = self.ledger.query(current_model)
            return None if model is None else self.store.fetch(model.version, model.digest)
        except XraycamError as error:
            log.warning("training %d: %s", self.training.id, error)
            return None

    def _progress_of(self, stage: str, noun: str = "image") -> Callable[[int, int], None]:
        """To be told how many images of how many a stage is done with; ends a training that was stopped."""
        noted = StageProgress(self.ledger, self.training, self.owner, stage, noun)

        def tell(done: int, of: int) -> None:
            if self.keeper.lost:
                raise TrainingStopped(f"stopped while {stage}, as asked")
            noted(done, of)

        return tell

    def _enter_stage(self, stage: str) -> None:
        """Note the stage; raises TrainingStopped when the training is no longer ours."""
        if self.keeper.lost or not self.ledger.write(set_stage, self.training, stage):
            raise TrainingStopped(f"stopped before {stage}: cancelled, or taken over")
        self.ledger.write(update_worker, self.owner, activity=f"training {self.training.id}: {stage}")

    def _scan(self, folder: str, **more: Any) -> LabelledDataset:
        limits = limits_of(self.settings)
        given = {
            "min_per_class": self.recipe.min_per_class,
            "group_by": self.options.group_by,
            "memory": self.settings.train_cache_bytes // 2,
        }
        images = None if self.options.images is None else Path(self.options.images)
        findings = more.pop("findings", self.options.findings)
        return load_labels(LabelSource(Path(folder), images, findings), limits=limits, **given | more)

    def _parts(self, dataset: LabelledDataset) -> tuple[Split, EarlierTraining | None]:
        """The split, without validation images that the version to start from has learned from; and what
        that version is. A training that is resumed gets the same."""
        parts = train_val_split(dataset, share=self.recipe.validation_share, seed=self.recipe.seed)
        earlier = earlier_training(self._init_weights())
        if earlier is not None:
            parts, earlier = without_learned(dataset, parts, earlier)
            if (said := said_of_earlier(earlier.record)) is not None:
                log.warning("training %d: %s", self.training.id, said)
        judged = dataset.first_of_equal(parts.validation)
        if copies := len(parts.validation) - len(judged):
            said = copies_said(copies, len(parts.validation))
            log.warning("training %d: of the validation part %s", self.training.id, said)
        # In no part then: equal files are in one group, and what judges must not be learned from.
        return Split(parts.training, tuple(judged)), earlier

    def _test_part(
        self, dataset: LabelledDataset, earlier: EarlierTraining | None = None
    ) -> tuple[LabelledDataset, list[int]] | None:
        """The folder to measure on at the end, and which of its images were not in the dataset, nor others of
        their patients."""
        if self.options.test is None:
            return None
        asked = {
            "findings": dataset.findings is not None,
            "classes": dataset.classes,
            "min_per_class": 0 if dataset.findings is not None else 1,
            "memory": 0,
            "samples": True,
        }
        try:
            test = self._scan(self.options.test, **asked)
        except PatientUnknown as error:
            log.warning(
                "training %d: --test: %s; of patients in the training folder only equal files are left out",
                self.training.id,
                error,
            )
            test = self._scan(self.options.test, group_by=NO_GROUPS, **asked)
        different = test.first_of_equal()
        if copies := len(test) - len(different):
            said = copies_said(copies, len(test))
            log.warning("training %d: --test: %s", self.training.id, said)
            test = test.subset(different)
        known, patients = set(dataset.sha256), frozenset().union(*dataset.patients)
        whose = test.patients or (frozenset(),) * len(test)
        unseen = [
            index
            for index, (sha256, names) in enumerate(zip(test.sha256, whose, strict=True))
            if sha256 not in known and not names & patients
        ]
        learned = in_digests(None if earlier is None else earlier.images, test.sha256)
        if learned is not None:
            unseen = [index for index in unseen if not learned[index]]
        if len(unseen) < len(test):
            log.warning(
                "training %d: --test: %d of %d images, or others of their patients, were learned from, here "
                "or by the version to start from, and are left out",
                self.training.id,
                len(test) - len(unseen),
                len(test),
            )
        missing = [name for name, count in test.counts(unseen).items() if count == 0]
        if missing and (dataset.findings is None or len(missing) == len(dataset.classes)):
            raise DatasetError(
                f"--test {test.root}: all its images of {', '.join(missing)}, or others of their "
                f"patients, are in {dataset.root} too, or were learned from by the version to start from; "
                "give images of people that are not trained on"
            )
        return test, unseen

    def _regions(self, dataset: LabelledDataset) -> FindingAnnotations | None:
        """The findings marked in a file beside the class folders, if there is one and the recipe uses it."""
        source = find_annotations(dataset.root)
        return (
            FindingAnnotations(source, dataset)
            if source is not None and self.recipe.localisation_loss_weight
            else None
        )

    def _fit(
        self, dataset: LabelledDataset, parts: Split, regions: FindingAnnotations | None
    ) -> TrainingResult:
        checkpoint = self.folder / CHECKPOINT_FILE
        if checkpoint.exists():
            # It may be ahead of the ledger, which takes no epoch of a training that was cancelled.
            self.history = epochs_in(checkpoint) or self.history
        elif self.history:
            log.warning("training %d starts anew: there is no %s here", self.training.id, checkpoint)
        trained = fit(
            dataset,
            parts,
            self.recipe,
            init_weights=self._init_weights(),
            regions=regions,
            progress=self._progress,
            should_stop=lambda: self.lease_lost or self.keeper.lost,
            checkpoint=checkpoint,
            memory=self.settings.train_cache_bytes // 2,
        )
        self.history = [asdict(epoch) for epoch in trained.history]
        self.ledger.write(record_epoch, self.training, self.history, None)
        return trained

    def _init_weights(self) -> str:
        given = self.training.init_weights
        if given in ("imagenet", "none") or Path(given).exists():
            return given
        model = self.ledger.query(get_model, given)
        return str(self.store.fetch(model.version, model.digest))

    def _progress(self, epoch: Epoch) -> None:
        if not math.isfinite(epoch.loss) or not math.isfinite(epoch.val_loss):
            raise Diverged(
                f"the loss of epoch {epoch.epoch} is not a number: the training diverged; train anew with "
                "lower learning rates: --set stages.0.learning_rate=..."
            )
        self.history = [known for known in self.history if known["epoch"] < epoch.epoch] + [asdict(epoch)]
        # The first epoch of a stage compiles its step, and says little about those that follow; epochs of the
        # head alone do not say how long those of the whole network take.
        of_stage = [known["seconds"] for known in self.history if known["stage"] == epoch.stage]
        known_pace = of_stage[1:][-3:] if epoch.stage == "network" or self.recipe.stages[-1].head_only else []
        left = float(np.mean(known_pace)) * (epoch.epochs - epoch.epoch) if known_pace else None
        self.lease_lost = not self.ledger.write(record_epoch, self.training, self.history, left)
        self.ledger.write(
            update_worker,
            self.owner,
            activity=f"training {self.training.id}: epoch {epoch.epoch}/{epoch.epochs}",
        )

    def _tested(
        self,
        test: tuple[LabelledDataset, list[int]] | None,
        trained: TrainingResult,
        validation: EvaluationResult,
    ) -> EvaluationResult | None:
        if test is None:
            return None
        folder, unseen = test
        scores = predict_logits(trained.network, self.recipe.preprocessing, folder, unseen)
        return measured(
            folder,
            unseen,
            scores,
            validation.metrics.temperature,
            positive_class=self.options.positive,
        )
