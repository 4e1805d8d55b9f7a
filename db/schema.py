"""The ledger's tables, as SQLAlchemy sees them. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    FromClause,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    case,
    column,
    func,
    select,
    table,
)

from db.dialect import Timestamp

metadata = MetaData()

# SQLite numbers rows by itself only for a column of exactly this type.
BigId = BigInteger().with_variant(Integer, "sqlite")

runs = Table(
    "runs",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("root", Text, nullable=False, comment="the folder, absolute"),
    Column("output", Text, nullable=False, comment="where this run's overlays go, absolute"),
    Column(
        "selection", JSON(none_as_null=True), comment="one file of the folder, or patterns; null: all images"
    ),
    Column("options", JSON, nullable=False),
    Column("pinned_model", String(64), comment="null: whichever model is current as a chunk starts"),
    Column("signature", String(64), nullable=False, comment="SHA-256 of what was asked for"),
    Column("repeat", Integer, nullable=False, comment="counts the forced repeats of one signature"),
    Column("chunk_size", Integer, nullable=False),
    Column("state", String(16), nullable=False, comment="scanning, open, stopped or cancelled"),
    Column("created_at", Timestamp, nullable=False),
    Column("scanned_at", Timestamp),
    UniqueConstraint("signature", "repeat", name="runs_signature"),
    # The number of a deleted run is not given again: overlays and messages may still bear it.
    sqlite_autoincrement=True,
)

chunks = Table(
    "chunks",
    metadata,
    Column("run_id", BigId, ForeignKey("runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("images", Integer, nullable=False),
    Column("done", Integer, nullable=False, server_default="0"),
    Column("failed", Integer, nullable=False, server_default="0"),
    Column("owner", String(255), comment="the worker that holds the lease"),
    Column("lease_expires_at", Timestamp),
    Column("leases", Integer, nullable=False, server_default="0", comment="how often it was leased"),
    Column("published_at", Timestamp, comment="when a message for it was last published"),
    Column("finished_at", Timestamp),
)
Index("chunks_unfinished", chunks.c.run_id, chunks.c.number, info={"where": chunks.c.finished_at.is_(None)})

images = Table(
    "images",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("run_id", BigId, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("chunk", Integer, nullable=False),
    Column("path", Text, nullable=False, comment="relative to the run's root"),
    Column("size", BigInteger, nullable=False, comment="bytes, as scanned"),
    Column("modified_ns", BigInteger, nullable=False, comment="modification time, as scanned"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("counted_in", Integer, comment="the lease of its chunk in which the last attempt was counted"),
    Column("gone_at", Timestamp, comment="when a scan found that the file is no more; null: it was there"),
    UniqueConstraint("run_id", "path", name="images_path"),
    Index("images_chunk", "run_id", "chunk"),
)
Index("images_gone", images.c.run_id, info={"where": images.c.gone_at.is_not(None)})

results = Table(
    "results",
    metadata,
    Column("image_id", BigId, ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("run_id", BigId, nullable=False),
    Column("status", String(16), nullable=False, comment="done or failed"),
    Column("reason", String(32), comment="why it failed, in one word to count by"),
    Column("error", Text, comment="why it failed, in a sentence"),
    Column("sha256", String(64), comment="of the file's content as read"),
    Column("width", Integer),
    Column("height", Integer),
    Column("class", Text, comment="the predicted class"),
    Column("probability", Double, comment="of the predicted class, calibrated"),
    Column("probabilities", JSON(none_as_null=True), comment="of every class, calibrated"),
    Column("score", Double, comment="calibrated probability of the model's positive class, 0 to 100"),
    Column("brightness", Double, comment="mean of the network's input, 0 to 255"),
    Column("contrast", Double, comment="standard deviation of the network's input, 0 to 255"),
    Column("threshold", Double, comment="the score from which on an image is referred, where one was set"),
    Column("decision", String(16), comment="refer, do-not-refer or not-decided, where a threshold was set"),
    Column(
        "odd",
        Text,
        comment="what is odd about the image, separated by commas; empty: nothing; null: not checked",
    ),
    Column("target_class", Text),
    Column("logit", Double, comment="of the explained class, before the softmax"),
    Column("layer", Text, comment="the heatmap's layer; several are separated by commas"),
    Column("method", Text, comment="how it was made; several are separated by commas"),
    Column(
        "heatmap_max",
        JSON(none_as_null=True),
        comment="per layer, method and class, as far as several: its maximum before it was scaled to 1",
    ),
    Column("cam_border_fraction", Double, comment="share of the heat in a frame an eighth of the side wide"),
    Column(
        "cam_corner_fraction", Double, comment="share of the heat in the corners, each a quarter of the side"
    ),
    Column(
        "cam_mask_fraction", Double, comment="share of the heat in the marked area, where masks were given"
    ),
    Column("blank", Boolean, comment="true where no positive evidence for the class was found"),
    Column("overlay", Text),
    Column("heatmap", Text, comment="file with the raw heatmaps, where kept"),
    Column("model_version", String(64)),
    Column("patient", String(32), comment="keyed hash of the DICOM patient ID and its issuer"),
    Column("study", String(32), comment="keyed hash of the study instance UID"),
    Column("series", String(32), comment="keyed hash of the series instance UID"),
    Column("instance", String(32), comment="keyed hash of the SOP instance UID"),
    Column("header", JSON(none_as_null=True), comment="facts of the DICOM header that name nobody"),
    Column("worker", String(255)),
    Column("attempts", Integer),
    Column("finished_at", Timestamp, nullable=False),
    ForeignKeyConstraint(["run_id"], ["runs.id"], ondelete="CASCADE"),
    # Both give their rows in the order of the images, and have what else these are chosen by.
    Index("results_status", "run_id", "status", "image_id", "probability", "reason"),
    Index("results_class", "run_id", "class", "image_id", "probability"),
    Index("results_score", "run_id", "score", "image_id"),
)

exports = Table(
    "exports",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("run_id", BigId, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column("image_id", BigId, ForeignKey("images.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(16), nullable=False, comment="capture, report or map"),
    Column("target", Text, nullable=False, comment="where it was sent, without credentials"),
    Column("instance_uid", String(64), nullable=False, comment="of the DICOM object that we made"),
    Column("series_uid", String(64), nullable=False),
    Column("source_sha256", String(64), nullable=False, comment="of the image's file"),
    Column("model_version", String(64), nullable=False),
    Column("state", String(16), nullable=False, comment="sent, refused or retry"),
    Column("answer", Text, comment="why the target did not take it, in its words"),
    Column("attempts", Integer, nullable=False),
    Column("recorded_at", Timestamp, nullable=False),
    UniqueConstraint("target", "instance_uid", name="exports_instance"),
    Index("exports_run", "run_id", "target", "state"),
    Index("exports_source", "source_sha256", "model_version"),
)
# For people who look through a run: sorted by what the model says, or by where its heat lies.
for _name in ("score", "probability", "cam_corner_fraction"):
    Index(
        f"results_by_{_name}", results.c.run_id, results.c[_name], results.c.image_id,
        info={"where": results.c[_name].is_not(None)},
    )  # fmt: skip

reviews = Table(
    "reviews",
    metadata,
    Column("image_id", BigId, ForeignKey("images.id", ondelete="CASCADE"), primary_key=True),
    Column("reader", String(255), primary_key=True),
    Column("run_id", BigId, ForeignKey("runs.id", ondelete="CASCADE"), nullable=False),
    Column(
        "verdict", String(16), nullable=False, comment="agree, disagree or unsure, with the predicted class"
    ),
    Column("class", Text, comment="the class by the reader, who names that predicted by agreeing"),
    Column("predicted", Text, comment="the class predicted then"),
    Column("sha256", String(64), comment="of the file's content that was explained then"),
    Column("note", Text),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    Index("reviews_of_run", "run_id", "reader", "image_id"),
)

models = Table(
    "models",
    metadata,
    Column("version", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, comment="SHA-256 of the folder's model.json"),
    Column("classes", JSON, nullable=False),
    Column("source", Text, nullable=False, comment="where it came from"),
    Column("metrics", JSON, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("promoted_at", Timestamp, comment="the version promoted last is current"),
)

deleted_models = Table(
    "deleted_models",
    metadata,
    Column("version", String(64), primary_key=True),
    Column("digest", String(64), nullable=False, comment="as it was in models"),
    Column("deleted_at", Timestamp, nullable=False),
)

operating_points = Table(
    "operating_points",
    metadata,
    Column("site", String(64), primary_key=True),
    Column("model_version", String(64), primary_key=True),
    Column("threshold", Double, nullable=False, comment="the score from which on an image is referred"),
    Column("figures", JSON, nullable=False, comment="what it gave, and distributions of the site's images"),
    Column("created_at", Timestamp, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", String(255), primary_key=True),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False, comment="of the launcher"),
    Column("device", String(32), nullable=False),
    Column("queues", Text, nullable=False),
    Column("model_version", String(64)),
    Column("activity", Text),
    Column("last_error", Text),
    Column("started_at", Timestamp, nullable=False),
    Column("last_heartbeat_at", Timestamp, nullable=False),
)

trainings = Table(
    "trainings",
    metadata,
    Column("id", BigId, primary_key=True),
    Column("dataset", Text, nullable=False, comment="the labelled folder, absolute"),
    Column("recipe", JSON, nullable=False),
    Column("init_weights", Text, nullable=False, comment="imagenet, none, a file or a version"),
    Column("options", JSON, nullable=False),
    Column("state", String(16), nullable=False,
           comment="queued, running, done, failed or cancelled; running past lease_expires_at means lost"),
    Column("start", Integer, nullable=False, server_default="0", comment="how often started"),
    Column("stage", String(16), comment="what it is at"),
    Column("epoch", Integer, nullable=False, server_default="0", comment="epochs done"),
    Column("epochs", Integer, nullable=False, comment="at most"),
    Column("loss", Double, comment="of the last epoch, in training"),
    Column("val_loss", Double),
    Column("val_auc", Double),
    Column("history", JSON, nullable=False, comment="all epochs"),
    Column("eta_seconds", Double, comment="as estimated at progress_at"),
    Column("progress_at", Timestamp),
    Column("owner", String(255), comment="the worker that holds the lease"),
    Column("lease_expires_at", Timestamp),
    Column("version", String(64), comment="of the model it made"),
    Column("promotion_reason", Text, comment="whether the version became current, and why"),
    Column("error", Text),
    Column("created_at", Timestamp, nullable=False),
    Column("published_at", Timestamp, comment="when a message for it was last published"),
    Column("started_at", Timestamp),
    Column("finished_at", Timestamp),
)  # fmt: skip

# What the view `predictions` shows, for people who query with plain SQL; CSV, JSON and Parquet have the same.
PREDICTION_COLUMNS: dict[str, ColumnElement[Any]] = {
    "run": images.c.run_id,
    "path": runs.c.root + "/" + images.c.path,
    "status": func.coalesce(
        results.c.status, case((runs.c.state == "cancelled", "cancelled"), else_="pending"), type_=Text
    ),
} | {
    name: results.c[name]
    for name in (
        "class", "probability", "probabilities", "score", "threshold", "decision", "odd",
        "brightness", "contrast", "target_class",
        "logit", "layer", "method", "heatmap_max", "blank", "cam_border_fraction", "cam_corner_fraction",
        "cam_mask_fraction", "overlay", "heatmap", "model_version", "patient", "study", "series", "instance",
        "header", "reason", "error", "sha256",
    )
} | {"enqueued_at": runs.c.created_at, "finished_at": results.c.finished_at,
     "gone_at": images.c.gone_at}  # fmt: skip


def select_predictions(source: FromClause) -> Select[*tuple[Any, ...]]:
    """The columns of `predictions` from a join of images, runs and results."""
    return select(*(value.label(name) for name, value in PREDICTION_COLUMNS.items())).select_from(source)


predictions = table("predictions", *(column(name, value.type) for name, value in PREDICTION_COLUMNS.items()))


def create_schema(connection: Connection) -> None:
    """Create all tables, and the view `predictions`."""
    for made in metadata.tables.values():
        for index in made.indexes:
            if "where" in index.info:
                # Told here: an index that names a dialect has it imported by every command.
                index.dialect_options[connection.dialect.name]["where"] = index.info["where"]
    metadata.create_all(connection)
    every_image = images.join(runs, runs.c.id == images.c.run_id).outerjoin(
        results, results.c.image_id == images.c.id
    )
    query = select_predictions(every_image).compile(
        dialect=connection.dialect, compile_kwargs={"literal_binds": True}
    )
    connection.exec_driver_sql(f"CREATE VIEW predictions AS {query}".replace("%%", "%"))
