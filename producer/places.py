"""Arguments of commands that are folders or URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from worker.remote.folder import RemoteFolder, place_of


class FolderOrUrl(click.ParamType):  # type: ignore[type-arg]
    """A folder as a Path, an object store's as a RemoteFolder, or the URL of a DICOMweb server as it is."""

    name = "folder"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Path | RemoteFolder | str:
        if isinstance(value, Path) or str(value).startswith(("dicomweb+http://", "dicomweb+https://")):
            return value  # type: ignore[no-any-return]
        return place_of(str(value))


class OutputPlace(click.ParamType):  # type: ignore[type-arg]
    """A folder as a Path, or an object store's as a RemoteFolder."""

    name = "folder"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> Path | RemoteFolder:
        return value if isinstance(value, (Path, RemoteFolder)) else place_of(str(value))
