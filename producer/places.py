"""Arguments of commands that are folders or URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from worker.remote.folder import RemoteFolder, place_of
from worker.remote.urls import local_path, refuse_url


class FolderOrUrl(click.ParamType):  # type: ignore[type-arg]  # Click 8.1 has none
    """A folder as a Path, an object store's as a RemoteFolder, or the URL of a DICOMweb server as it is."""

    name = "folder"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path | RemoteFolder | str:
        if isinstance(value, Path) or str(value).startswith(("dicomweb+http://", "dicomweb+https://")):
            return value  # type: ignore[no-any-return]  # text, or what a default gave
        return place_of(str(value))


class LocalPath(click.Path):
    """A file or folder of this machine, which file:/// may name; another URL is refused before all else."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).startswith("file:///"):
            value = str(local_path(str(value)))
        refuse_url(str(value), "name a folder" if self.dir_okay else "name a file")
        return super().convert(value, param, ctx)


class OutputPlace(click.ParamType):  # type: ignore[type-arg]  # Click 8.1 has none
    """A folder as a Path, or an object store's as a RemoteFolder."""

    name = "folder"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Path | RemoteFolder:
        return value if isinstance(value, (Path, RemoteFolder)) else place_of(str(value))
