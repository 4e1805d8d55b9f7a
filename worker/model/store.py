"""The model store: one model folder per version, on a path or a remote file system."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.ledger import Ledger
from db.models import Model, add_model, current_model
from worker.errors import ModelError
from worker.model.kept_copy import copies_folder, copy_folder
from worker.model.metadata import METADATA_FILE, check_folder, digest_of, read_metadata
from worker.queue.broker import redact_url
from worker.safe_files import apply_umask

if TYPE_CHECKING:
    from worker.settings import Settings

STARTER = Path(__file__).parent / "starter"


class ModelStore:
    """Model folders by version.

    `url`: a path that all machines see, or an fsspec URL such as s3://bucket/models.
    `cache`: folder of this machine that keeps checked copies.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        self.cache = cache

    def __str__(self) -> str:
        return redact_url(self.url)

    def publish(self, folder: Path) -> str:
        """Copy a model folder into the store, whole or not at all; returns its version.

        A version that is there already stays as it is. Raises ModelError if the folder is damaged or the
        store cannot be written.
        """
        version = check_folder(folder).version
        with self._explained(f"model {version} cannot be published"):
            files, root = self._file_system()
            target = f"{root}/{version}"
            if files.exists(f"{target}/{METADATA_FILE}"):
                return version
            if "file" in files.protocol:
                _copy_whole(folder, Path(target))
                return version
            # Remote stores rename no folders: model.json comes last, and without it there is no model.
            for file in sorted(folder.iterdir(), key=lambda file: file.name == METADATA_FILE):
                files.put_file(str(file), f"{target}/{file.name}")
        return version

    def exists(self, version: str) -> bool:
        """Whether there is a folder of this version. Raises ModelError if the store does not answer."""
        with self._explained(f"no looking for model {version}"):
            files, root = self._file_system()
            return bool(files.exists(f"{root}/{version}/{METADATA_FILE}"))

    def size(self, version: str) -> int:
        """Bytes of a version's folder. Raises ModelError when it is not in the store."""
        with self._explained(f"model {version} cannot be measured"):
            files, root = self._file_system()
            if not files.exists(f"{root}/{version}/{METADATA_FILE}"):
                raise self._missing(version)
            return int(files.du(f"{root}/{version}"))

    def fetch(self, version: str, digest: str) -> Path:
        """A checked copy of a version on this machine, fetched once.

        `digest` is that of its model.json, from the ledger. Raises ModelError when the version is not in
        the store, or is not what was published.
        """
        kept = copy_folder(self.cache, version, digest)
        if kept.is_dir():
            try:
                check_folder(kept, digest)
                return kept
            except ModelError:
                shutil.rmtree(kept, ignore_errors=True)
        with self._explained(f"model {version} cannot be fetched"):
            files, root = self._file_system()
            if not files.exists(f"{root}/{version}/{METADATA_FILE}"):
                raise self._missing(version)
            with _half_done(kept) as folder:
                for name in files.ls(f"{root}/{version}", detail=False):
                    if files.isfile(name):
                        files.get_file(name, str(folder / Path(name).name))
                check_folder(folder, digest, origin=f"{self}/{version}")
        return kept

    def remove(self, version: str) -> None:
        """Delete a version's folder, and our copies; it need not be there. Raises ModelError."""
        with self._explained(f"the folder of model {version} cannot be removed; remove it by hand"):
            files, root = self._file_system()
            if files.exists(f"{root}/{version}"):
                files.rm(f"{root}/{version}", recursive=True)
        for kept in self.cache.glob(f"{version}-*"):
            if re.fullmatch(re.escape(version) + r"-[0-9a-f]{12}(\.compiled)?", kept.name):
                shutil.rmtree(kept, ignore_errors=True)

    def _missing(self, version: str) -> ModelError:
        return ModelError(
            f"model {version} is not in the model store {self}; check XRAYCAM_MODELS, which every "
            "machine must be able to read"
        )

    def _file_system(self) -> tuple[Any, str]:
        import fsspec

        if "://" not in self.url:
            # A folder's name may hold '::' or other signs that mean something in a URL.
            return fsspec.filesystem("file"), self.url
        files, root = fsspec.core.url_to_fs(self.url)
        return files, str(root)

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ImportError, ValueError) as error:
            cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            cause = cause.replace(self.url, str(self))
            raise ModelError(f"{what}: the model store {self}: {cause}; check XRAYCAM_MODELS") from error


def store_of(settings: Settings) -> ModelStore:
    """The store that the settings name."""
    return ModelStore(settings.model_store, copies_folder(settings))


def ensure_current_model(ledger: Ledger, store: ModelStore) -> Model:
    """The current model; the starter model that ships with xraycam where none was promoted yet."""
    model = ledger.query(current_model)
    if model is not None:
        return model
    version = store.publish(STARTER)
    description = read_metadata(STARTER)
    ledger.write(
        add_model,
        version=version,
        digest=digest_of(STARTER),
        classes=description.classes,
        source="shipped with xraycam",
        metrics=description.training.get("validation", {}),
        created_at=description.created_at,
        promote=True,
    )
    model = ledger.query(current_model)
    if model is None:
        raise ModelError(f"model {version} could not be promoted; 'xraycam models' lists the versions")
    return model


def _copy_whole(folder: Path, target: Path) -> None:
    with _half_done(target) as half_done:
        shutil.copytree(folder, half_done, dirs_exist_ok=True)
        check_folder(half_done)


@contextmanager
def _half_done(target: Path) -> Iterator[Path]:
    """A folder to fill that becomes `target` if the block succeeds, and is removed if not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        apply_umask(folder)
        try:
            folder.rename(target)
        except OSError:
            # Another process was faster; what it put there is the same version.
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
