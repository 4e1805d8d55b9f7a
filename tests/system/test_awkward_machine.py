"""Long names, long folders, other encodings and closed streams: said in a line, or simply done."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from db.errors import DatabaseUnavailable
from db.ledger import Ledger
from db.migrate import migrate
from db.schema import results
from tests.support.installation import COMMAND, Installation, draw_many
from tests.support.servers import Postgres
from worker.file_names import NAME_MAX, fitting_path


def test_names_as_long_as_a_file_system_takes_get_an_overlay(installation: Installation) -> None:
    installation.without_tensorflow()
    xrays = draw_many(installation.folder / "xrays", 6)
    for number, image in enumerate(sorted(xrays.iterdir())):
        length = 250 + number
        image.rename(xrays / f"{'n' * (length - 5)}{number}.png")
    for number, image in enumerate(sorted(draw_many(installation.folder / "wide", 2).iterdir())):
        image.rename(xrays / f"{'ü' * 125}{number}.png")
    installation.xraycam("run", xrays, "--output-format", "webp", "--heatmaps")
    assert installation.counts() == {"images": 8, "done": 8}
    with installation.ledger.read() as connection:
        rows = connection.execute(results.select()).all()
    assert len({row.overlay for row in rows}) == 8
    assert all(Path(row.overlay).is_file() and Path(row.heatmap).is_file() for row in rows)


def test_a_name_is_shortened_only_where_it_must_be() -> None:
    assert fitting_path("a/b.png", ".jpg") == "a/b.png.jpg"
    assert fitting_path("n" * 251, ".jpg") == "n" * 251 + ".jpg"
    long, other = fitting_path("n" * 252, ".jpg"), fitting_path("n" * 253, ".jpg")
    assert len(long) == len(other) == NAME_MAX
    assert long != other
    assert long.endswith(".jpg")
    assert long == "n" * (255 - 21) + "~" + hashlib.sha256(b"n" * 252).hexdigest()[:16] + ".jpg"
    assert len(fitting_path("ü" * 127, ".webp").encode()) <= NAME_MAX


@pytest.mark.parametrize("name", ["t" * 120, "TB%20?#data"])
def test_a_long_or_odd_tmpdir_does_not_keep_the_private_server_from_starting(
    installation: Installation, name: str
) -> None:
    folder = installation.folder / name
    folder.mkdir()
    installation.without_tensorflow()
    installation.environment["TMPDIR"] = str(folder)
    installation.xraycam("run", draw_many(installation.folder / "xrays", 2))
    assert installation.counts() == {"images": 2, "done": 2}


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_utf8_is_refused_in_a_line(postgres: Postgres, encoding: str) -> None:
    name = f"narrow_{encoding.lower()}"
    with psycopg.connect(**postgres._connect_to("postgres"), autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LOCALE 'C'").format(
                sql.Identifier(name), sql.Literal(encoding)
            )
        )
    address = f"{postgres.USER}:{postgres.password}@127.0.0.1:{postgres.port}"
    ledger = Ledger(f"postgresql+psycopg://{address}/{name}")
    with pytest.raises(DatabaseUnavailable, match=rf"stores text as {encoding}.*createdb -E UTF8"):
        migrate(ledger)


def test_output_that_is_not_utf8_is_escaped(installation: Installation) -> None:
    xrays = installation.folder / "Röntgen"
    draw_many(xrays, 1)
    installation.without_tensorflow()
    installation.environment |= {"PYTHONIOENCODING": "ascii"}
    done = installation.xraycam("run", xrays)
    assert "Traceback" not in done.stderr
    assert r"R\xf6ntgen" in installation.xraycam("runs").stdout


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_do_no_harm(installation: Installation, closed: str) -> None:
    xrays = draw_many(installation.folder / "xrays", 1)
    installation.without_tensorflow()
    script = f"exec {COMMAND} run {xrays} {closed}"
    done = subprocess.run(
        ["sh", "-c", script], env=installation.environment, cwd=installation.folder, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert installation.counts() == {"images": 1, "done": 1}


def test_a_full_standard_output_is_said_in_a_line(installation: Installation) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [COMMAND, "runs"], env=installation.environment, stdout=full, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "xraycam: standard output cannot be written: No space left on device"
    ]
