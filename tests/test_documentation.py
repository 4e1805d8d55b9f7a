"""The README is true: its commands, its settings, its columns; and every option explains itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from db.results import COLUMNS
from producer.cli import cli
from worker.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for inner in command.list_commands(context):
                found = command.get_command(context, inner)
                assert found is not None
                yield f"{name} {inner}", found


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_every_command_and_option_has_help(name: str, command: click.Command) -> None:
    assert command.help, name
    if " " not in name:
        assert "xample" in command.help + (command.epilog or ""), f"{name} shows no example"
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize(("name", "command"), list(commands()))
def test_no_option_is_given_twice_to_a_command(name: str, command: click.Command) -> None:
    options = [option for parameter in command.params for option in parameter.opts]
    assert len(options) == len(set(options)), name


@pytest.mark.parametrize("name", [name for name, _ in commands() if " " not in name])
def test_every_command_is_in_the_readme(name: str) -> None:
    table = README[README.index("| command |") : README.index("Exit status:")]
    assert re.search(rf"`{name}[ `]", table), name


@pytest.mark.parametrize("field", list(Settings.model_fields))
def test_every_setting_is_in_the_readme(field: str) -> None:
    assert f"`{PREFIX}{field.upper()}`" in README


def test_every_column_of_the_view_is_in_the_readme() -> None:
    missing = [name for name in COLUMNS if f"`{name}`" not in README]
    assert not missing


def test_no_command_of_the_readme_trains_by_a_recipe_that_is_there_for_comparison() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    assert not [block for block in blocks if "--recipe reference" in block]


def test_every_reason_of_failure_is_in_the_readme() -> None:
    source = "\n".join(path.read_text() for path in (ROOT / "worker").rglob("*.py"))
    reasons = set(re.findall(r'ImageError\(\s*"([a-z-]+)"', source)) | {"crashed-worker"}
    assert len(reasons) > 5
    assert not [reason for reason in reasons if f"`{reason}`" not in README]
