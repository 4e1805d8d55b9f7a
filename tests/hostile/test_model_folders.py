"""A model folder from anywhere is a model or a ModelError of one line; it reaches no other file."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.errors import ModelError
from worker.model.metadata import METADATA_FILE, ModelMetadata, check_folder, read_metadata, sha256_of
from worker.model.store import STARTER, ModelStore

WEIGHTS = "weights.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STARTER, tmp_path / "model"))


def refusal_of(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_folder(folder)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 1000
    return text


def described(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / METADATA_FILE).read_text())
    return found


def describe(folder: Path, metadata: Any) -> None:
    (folder / METADATA_FILE).write_text(json.dumps(metadata), encoding="utf-8", errors="surrogatepass")


def paths(part: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to all values of a JSON document, but into the free part, of which no code reads a value."""
    if not isinstance(part, dict | list) or here == ("training",):
        return [here]
    items = part.items() if isinstance(part, dict) else list(enumerate(part))[:3]
    return [here, *(path for name, inner in items for path in paths(inner, (*here, name)))]


GOOD = described(STARTER)
AWKWARD = st.sampled_from(
    [
        None, True, -1, 0, 10**30, 10**400, 1e308, float("nan"), float("inf"), -0.0, "", "a\nb", "\x00",
        "../../x", "/etc/passwd", "x" * 10_000, "\ud800", [], {}, [[]] * 5, {"a\nb": 1}, "${HOME}",
    ]
)  # fmt: skip
ANYTHING = AWKWARD | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(path=st.sampled_from(paths(GOOD)), value=ANYTHING, unknown=st.text(max_size=20) | st.none())
def test_any_value_in_model_json_gives_a_description_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, path: tuple[Any, ...], value: Any, unknown: str | None
) -> None:
    folder = tmp_path_factory.getbasetemp() / "mutated"
    folder.mkdir(exist_ok=True)
    mutated: Any = copy.deepcopy(GOOD)
    if not path:
        mutated = value
    else:
        part = mutated
        for name in path[:-1]:
            part = part[name]
        part[path[-1]] = value
        if unknown is not None and isinstance(part, dict):
            part[unknown] = value
    describe(folder, mutated)
    try:
        metadata = read_metadata(folder)
    except ModelError as error:
        refusal = str(error)
    else:
        assert_within_bounds(metadata)
        return
    assert refusal.isprintable()
    assert len(refusal) < 1000


def assert_within_bounds(metadata: ModelMetadata) -> None:
    """What is accepted can be built, printed and stored."""
    assert metadata.version == Path(metadata.version).name
    assert metadata.weights.file == Path(metadata.weights.file).name
    assert 32 <= metadata.preprocessing.size <= 2048
    assert 0 <= metadata.head.l2 <= 1e6
    for name in (*metadata.classes, metadata.default_layer, metadata.default_method):
        assert "\n" not in name
        assert "\0" not in name


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 200_000, b"null", b'{"format": 1' + b"0" * 10_000]
)
def test_broken_json_is_one_line(folder: Path, content: bytes) -> None:
    (folder / METADATA_FILE).write_bytes(content)
    assert "is damaged" in refusal_of(folder)


def test_giant_description_and_weights_are_refused_unread(folder: Path) -> None:
    with (folder / WEIGHTS).open("ab") as stream:
        stream.truncate(2_000_000_000)
    assert "more than 1,000,000,000 bytes" in refusal_of(folder)
    with (folder / METADATA_FILE).open("ab") as stream:
        stream.truncate(5_000_000_000)
    assert "larger than any metadata" in refusal_of(folder)


@pytest.mark.parametrize(
    "place", ["../weights.safetensors", "/etc/passwd", "a/b", "", ".", "..", "a\n", "x" * 300]
)
def test_weights_elsewhere_are_refused(folder: Path, place: str) -> None:
    describe(folder, GOOD | {"weights": GOOD["weights"] | {"file": place}})
    assert "weights.file" in refusal_of(folder)


def test_links_are_refused_and_what_they_lead_to_is_not_published(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("private")
    (folder / "curves.png").symlink_to(secret)
    assert "curves.png is a link" in refusal_of(folder)
    store = ModelStore(str(tmp_path / "store"), tmp_path / "cache")
    with pytest.raises(ModelError, match="is a link"):
        store.publish(folder)
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", [WEIGHTS, METADATA_FILE])
def test_linked_parts_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    assert f"{name} is a link" in refusal_of(folder)


@pytest.mark.parametrize("name", [WEIGHTS, METADATA_FILE, "more"])
def test_pipes_are_refused_without_waiting_for_them(folder: Path, name: str) -> None:
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert "is no file" in refusal_of(folder) or "not a regular file" in refusal_of(folder)


def test_changed_weights_are_refused(folder: Path) -> None:
    content = (folder / WEIGHTS).read_bytes()
    for changed in (b"", content[:-1], content + b"\0", content[:1000] + b"\1" + content[1001:]):
        (folder / WEIGHTS).write_bytes(changed)
        assert "is damaged" in refusal_of(folder)


def test_weights_that_are_none_are_one_line_though_their_digest_is_right(folder: Path) -> None:
    """The only test here that needs TensorFlow."""
    from worker.model.network import load_model

    def tensor(**header: Any) -> bytes:
        text = json.dumps({"a": header}).encode()
        return struct.pack("<Q", len(text)) + text + b"\0" * 8

    whole = (folder / WEIGHTS).read_bytes()
    pickled = b"\x80\x04cos\nsystem\n(S'true'\ntR."
    for content in (
        b"", b"\0" * 7, whole[:5000], whole[: len(whole) // 2], pickled, struct.pack("<Q", 2**63) + b"{}",
        struct.pack("<Q", 10**8) + b"{", tensor(dtype="F32", shape=[2**40], data_offsets=[0, 8]),
        tensor(dtype="BF16", shape=[4], data_offsets=[0, 8]),
        tensor(dtype="X", shape=[4], data_offsets=[0, 8]),
        tensor(dtype="F32", shape=[2], data_offsets=[0, 8]),
    ):  # fmt: skip
        (folder / WEIGHTS).write_bytes(content)
        describe(folder, GOOD | {"weights": {"file": WEIGHTS, "sha256": sha256_of(folder / WEIGHTS)}})
        with pytest.raises(ModelError) as caught:
            load_model(folder)
        assert str(caught.value).isprintable()
