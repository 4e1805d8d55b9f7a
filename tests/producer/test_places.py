"""Arguments that are folders: none takes a URL for the name of one."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from producer.cli import cli
from producer.places import LocalPath
from worker.errors import XraycamError


def commands(group: click.Command, context: click.Context) -> list[click.Command]:
    if not isinstance(group, click.Group):
        return [group]
    found = [group.get_command(context, name) for name in group.list_commands(context)]
    return [command for one in found if one is not None for command in commands(one, context)]


def test_no_argument_takes_a_url_for_a_folder_of_this_machine() -> None:
    found = commands(cli, click.Context(cli))
    assert len(found) > 20
    for command in found:
        for parameter in command.params:
            assert type(parameter.type) is not click.Path, f"{command.name} {parameter.name}"


def test_a_url_is_refused_and_file_urls_are_paths(tmp_path: Path) -> None:
    for kind, instead in ((LocalPath(path_type=Path), "folder"), (LocalPath(dir_okay=False), "file")):
        with pytest.raises(XraycamError, match=f"s3://bucket/x: is a URL.*name a {instead}"):
            kind.convert("s3://bucket/x", None, None)
    (tmp_path / "a b").mkdir()
    assert LocalPath(path_type=Path).convert(f"file://{tmp_path}/a%20b", None, None) == tmp_path / "a b"
