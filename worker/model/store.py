"""The model store: a folder with one model folder per version. Light: no TensorFlow here."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from db.ledger import Ledger
from db.models import Model, add_model, current_model, get_model
from worker.errors import ModelError
from worker.model.description import Description, read_description
from worker.model.integrity import check_folder, digest_of

STARTER = Path(__file__).parent / "starter"


def folder_of(store: Path, version: str) -> Path:
    """Where a version's folder is. Raises ModelError when it is not there."""
    folder = store / version
    if not folder.is_dir():
        raise ModelError(
            f"model {version} is not in the model store {store}; check XRAYCAM_MODELS, which every "
            "machine must see under its own path"
        )
    return folder


def copy_into_store(store: Path, folder: Path) -> Path:
    """Copy a checked model folder into the store, whole or not at all; one that is there stays."""
    version = read_description(folder).version
    target = store / version
    if target.exists():
        return target
    store.mkdir(parents=True, exist_ok=True)
    half_done = Path(tempfile.mkdtemp(prefix=f".{version}.", dir=store))
    try:
        shutil.copytree(folder, half_done, dirs_exist_ok=True)
        check_folder(half_done)
        half_done.chmod(0o755)
        half_done.rename(target)
    except FileExistsError:
        pass
    except OSError:
        if not target.exists():
            raise
    finally:
        shutil.rmtree(half_done, ignore_errors=True)
    return target


def ensure_current_model(ledger: Ledger, store: Path) -> Model:
    """The current model; the starter model that ships with xraycam where none was promoted yet."""
    model = current_model(ledger)
    if model is not None:
        return model
    description = check_folder(STARTER)
    folder = copy_into_store(store, STARTER)
    add_model(
        ledger,
        version=description.version,
        digest=digest_of(folder),
        classes=description.classes,
        source="shipped with xraycam",
        metrics=description.training.get("figures", {}),
        promote=True,
    )
    model = current_model(ledger)
    if model is None:
        raise ModelError(
            f"model {description.version} could not be promoted; 'xraycam models' lists versions"
        )
    return model


def checked_description(ledger: Ledger, store: Path, version: str) -> Description:
    """The description of a version, its folder checked against the ledger. Raises ModelError."""
    return check_folder(folder_of(store, version), get_model(ledger, version).digest)
