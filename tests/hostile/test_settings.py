"""Any value of any setting is taken, within bounds, or refused in one line that shows no password."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.settings import PREFIX, Settings, SettingsError, load_settings

AWKWARD = st.sampled_from(
    [
        "", " ", "-1", "0", "1e400", "nan", "inf", "-inf", "9" * 5000, "0x10", "٣", "777", "888", "true",
        "~nobody-of-this-name/x", "../..", "a\nb", "sqlite://", "redis://[", "redis://h:port/0", "http://h",
        "redis://:hidden@h:99999999/0", "redis://h/0?password=hidden", "postgresql://u:hidden@h:x/d",
        "s3://:hidden@b/c",
    ]
)  # fmt: skip
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=400, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(field=st.sampled_from(sorted(Settings.model_fields)), value=AWKWARD | TEXT | st.integers().map(str))
def test_any_value_is_taken_or_refused_in_one_line(home: object, field: str, value: str) -> None:
    name = PREFIX + field.upper()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        load_settings.cache_clear()
        refusal = None
        try:
            taken = load_settings()
        except SettingsError as error:
            refusal = str(error)
    if refusal is None:
        assert_usable(taken)
    else:
        assert name in refusal
        assert len(refusal.splitlines()) == 1
        assert len(refusal) < 1000
        assert not field.endswith("_url") or "hidden" not in refusal


def assert_usable(taken: Settings) -> None:
    assert taken.home.is_absolute()
    assert 0 <= int(taken.umask, 8) <= 0o777
    assert 1 <= taken.max_bytes <= 10**10
    assert taken.shutdown_grace_period < float("inf")
    assert all(value for value in taken.as_environment())
    assert taken.database
    assert isinstance(taken.passwords, set)


def test_new_files_are_private_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch, home: object) -> None:
    before = os.umask(0o022)
    try:
        load_settings().apply_umask()
        assert os.umask(0o022) == 0o077
        monkeypatch.setenv("XRAYCAM_UMASK", "027")
        load_settings.cache_clear()
        load_settings().apply_umask()
        assert os.umask(0o022) == 0o027
    finally:
        os.umask(before)


def test_a_setting_is_given_by_name_or_else_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
    home: object,
) -> None:
    monkeypatch.setenv("XRAYCAM_BATCH_SIZE", "8")
    monkeypatch.setenv("xraycam_threads", "3")
    monkeypatch.setenv("XRAYCAM_OUTPUT", "")
    read = Settings()
    assert (read.batch_size, read.threads, read.output, read.chunk_size) == (8, 3, None, 128)
    assert Settings(batch_size=4).batch_size == 4


@pytest.mark.parametrize("name", ["XRAYCAM_TREADS", "xraycam_treads", "Xraycam_Treads"])
def test_a_setting_that_there_is_not_is_refused_in_whatever_case(
    monkeypatch: pytest.MonkeyPatch, home: object, name: str
) -> None:
    monkeypatch.setenv(name, "3")
    load_settings.cache_clear()
    with pytest.raises(SettingsError, match=f"no setting {name}; did you mean XRAYCAM_THREADS"):
        load_settings()
