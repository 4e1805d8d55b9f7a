"""Tables of labels: the three forms, what is refused with its line, and what is left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from producer.viewer.labels import COLUMNS as REVIEWED_COLUMNS
from tests.support.made_dicom import dicom
from tests.support.made_dicom import picture as made_picture
from worker.train.dataset import LabelledDataset
from worker.train.dataset_layout import DatasetError
from worker.train.label_table import read_label_table
from worker.train.labels import LabelSource, load_labels
from worker.train.splits import train_val_split


def table(folder: Path, text: str) -> Path:
    file = folder / "labels.csv"
    file.write_text(text)
    return file


def picture(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(pixels).save(file)


def test_the_three_forms(tmp_path: Path) -> None:
    columns = read_label_table(table(tmp_path, "Path,Sex,No Finding,A,B\na.png,F,0,1.0,\nb.png,M,1,-1,0\n"))
    assert not columns.exclusive
    assert columns.classes == ("A", "B")
    assert {row.path: row.said for row in columns.rows} == {"a.png": (1.0, None)} | {"b.png": (None, 0.0)}
    assert columns.notes == ("columns not used: Sex, No Finding",)
    listed = read_label_table(
        table(tmp_path, "Image Index,Finding Labels,Patient ID\na.png,B|A,1\nb.png,No Finding,2\n")
    )
    assert listed.classes == ("A", "B")
    assert [row.said for row in listed.rows] == [(1.0, 1.0), (0.0, 0.0)]
    assert [row.patient for row in listed.rows] == ["1", "2"]
    reviewed = ",".join(REVIEWED_COLUMNS)  # as export-labels writes them
    rows = "a.png,Normal,x,Ill,,2026-01-01\nb.png,Ill,y,Ill,,2026-01-01\n"
    classes = read_label_table(table(tmp_path, f"{reviewed}\n{rows}"))
    assert classes.exclusive
    assert classes.classes == ("Ill", "Normal")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,A,B\nx.png,1,0\n", "line 1 names no column path"),
        ("path,A,B\nx.png,1,maybe\n", "line 2, column B: 'maybe' is not 1"),
        ("path,A,B\nx.png,1\n", "line 2 has 2 cells, line 1 has 3"),
        ("path,Normal,Tuberculosis\nx.png,1,0\n", "column Normal is no finding; of classes that exclude"),
        ("path,A\nx.png,1\n", "two or more columns of findings"),
        ("path,A,A\nx.png,1,0\n", "two columns are called a"),
        ("path,A,B\n../x.png,1,0\n", "line 2: ../x.png leads out"),
        ("path,A,B\n/etc/x.png,1,0\n", "line 2: /etc/x.png leads out"),
        ("path,A,B\n,1,0\n", "line 2 names no file"),
        ("path,findings\nx.png,A|No Finding\n", "line 2: names findings and none of them"),
        ("path,findings\nx.png,\n", "line 2, column findings: a name is missing"),
        ("path,class,findings\nx.png,A,B\n", "leave one of these columns"),
        ("path,class\nx.png,A\n", "fewer than two"),
        ('path,A,B\n"x.png,1,0\n', "cannot be read as CSV"),
        ("", "line 1 names no column path"),
    ],
)
def test_other_tables_are_refused_in_a_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=r"labels\.csv") as refusal:
        read_label_table(table(tmp_path, text))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    for number in range(4):
        picture(tmp_path / "images" / f"{number}.png", number)
    picture(tmp_path / "secret.png", 9)
    (tmp_path / "images" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "images" / "copy.png").write_bytes((tmp_path / "images" / "3.png").read_bytes())
    (tmp_path / "images" / "bad.png").write_text("no image")
    file = table(
        tmp_path,
        "path,A,B\n0.png,1,0\n0.png,1,\n1.png,0,1\n2.png,1,1\n2.png,0,1\n3.png,1,0\ncopy.png,0,0\n"
        "gone.png,1,0\nlink.png,1,1\nbad.png,1,1\nsilent.png,,\n",
    )
    found = load_labels(LabelSource(file, tmp_path / "images"), min_per_class=1)
    assert [path.name for path in found.files] == ["0.png", "1.png"]
    assert found.findings is not None
    np.testing.assert_array_equal(found.findings, [[1, 0], [0, 1]])
    reasons = {item.file.name: item.reason for item in found.skipped}
    assert reasons.pop("bad.png")
    assert reasons == {
        "2.png": "labelled-twice",
        "3.png": "labelled-twice",
        "copy.png": "labelled-twice",
        "gone.png": "missing",
        "link.png": "outside-root",
    }
    assert any("lines 5, 6 say different things" in item.message for item in found.skipped)
    assert "files with several rows that agree, taken once: 1" in found.passed_over
    assert "files of which no finding is known, left out: 1" in found.passed_over


def test_a_file_in_several_folders_has_all_their_findings(tmp_path: Path) -> None:
    picture(tmp_path / "A" / "1.png", 1)
    picture(tmp_path / "B" / "1.png", 1)
    picture(tmp_path / "B" / "2.png", 2)
    picture(tmp_path / "Normal" / "3.png", 3)
    found = load_labels(LabelSource(tmp_path, findings=True), min_per_class=1)
    assert found.classes == ("A", "B")
    assert found.findings is not None
    assert sorted(found.findings.tolist()) == [[0, 0], [0, 1], [1, 1]]


def made(findings: list[list[float]], groups: list[int]) -> LabelledDataset:
    files = tuple(Path(str(n)) for n in range(len(findings)))
    return LabelledDataset(
        Path("made"), ("A", "B"), files, (), tuple("0" for _ in files), tuple(groups), (), None, (),
        np.array(findings, np.float32),
    )  # fmt: skip


def test_a_patient_is_known_by_the_name_in_the_table_and_by_that_in_the_header(tmp_path: Path) -> None:
    """The table names the patient of half of the images: the header tells that the others are of the same."""
    rows = ["path,class,patient"]
    for number in range(12):
        content = dicom(made_picture() + number, PatientID=f"ID{number // 2}", BitsStored=16)
        (tmp_path / f"{number:02}.dcm").write_bytes(content)
        rows.append(f"{number:02}.dcm,{'Ill' if number % 4 < 2 else 'Well'},{'' if number % 2 else number}")
    found = load_labels(LabelSource(table(tmp_path, "\n".join(rows))), min_per_class=2)
    assert [found.groups[n] == found.groups[n + 1] for n in range(11)] == [n % 2 == 0 for n in range(11)]
    assert found.patients[:2] == (frozenset({"0.0", "id0"}), frozenset({"id0"}))
    by_name = load_labels(LabelSource(table(tmp_path, "\n".join(rows))), min_per_class=2, group_by=r"^(.)")
    assert len(set(by_name.groups)) == 2, "0 and 1 begin the names"
    alone = load_labels(LabelSource(table(tmp_path, "\n".join(rows))), min_per_class=2, group_by="none")
    assert len(set(alone.groups)) == 12


def test_parts_have_each_finding_and_its_absence_and_patients_stay_together() -> None:
    random = np.random.default_rng(0)
    findings = (random.random((200, 2)) < [0.5, 0.15]).astype(float)
    dataset = made(findings.tolist(), [n // 2 for n in range(200)])
    parts = train_val_split(dataset, share=0.25, seed=3)
    assert not {n // 2 for n in parts.training} & {n // 2 for n in parts.validation}
    for label in range(2):
        share = len(dataset.members(label, parts.validation)) / len(dataset.members(label))
        assert 0.18 <= share <= 0.27  # of 30 eight, of a patient both
    with pytest.raises(DatasetError, match="no image of B would be in the validation part"):
        train_val_split(made([[1, 0], [0, 0], [1, 0], [0, 0], [0, 1]] * 1, list(range(5))), share=0.4, seed=1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,class\na.png,Normal\nb.png,normal\nc.png,Ill\n", "'Normal' and 'normal' differ only"),
        ("path,class\na.png,Not  ill\nb.png,Not-ill\n", "'Not  ill' and 'Not-ill' differ only"),
        ("path,class\na.png,caf\u00e9\nb.png,cafe\u0301\n", "differ only in how they are written"),
        ("path,class\na.png,1\nb.png,1.0\nc.png,0\n", "'1' and '1.0' differ only"),
        ("path,findings\na.png,A b|C\nb.png,A_b\n", "'A b' and 'A_b' differ only"),
        ("path,A b,A_B\na.png,1,0\n", "'A b' and 'A_B' differ only"),
        ("path,findings\na.png,A;B\nb.png,A\nc.png,C\n", "'A;B' is several names; separate findings by |"),
        ('path,findings\na.png,"A, B"\nb.png,A\nc.png,B\n', "'A, B' is several names"),
        ("path,findings\na.png,['A']\nb.png,['B']\n", "is several names"),
        ("path,class\na.png,A|B\nb.png,A\nc.png,B\n", "'A|B' is several names"),
        (
            "path,class\na.png,nan\nb.png,A\nc.png,B\n",
            "line 2, column class: 'nan' says that nothing is known",
        ),
        ("path,findings\na.png,N/A\nb.png,A\nc.png,B\n", "'N/A' says that nothing is known"),
    ],
)
def test_names_that_would_make_classes_of_nothing_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError) as refusal:
        read_label_table(table(tmp_path, text))
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "names",
    [("COVID", "COVID+"), ("Opacity", "Opacity, other"), ("Mass", "Nodule/Mass"), ("Grade 1", "Grade 2")],
)
def test_names_that_are_alike_in_part_are_two(tmp_path: Path, names: tuple[str, str]) -> None:
    found = read_label_table(table(tmp_path, f'path,class\na.png,"{names[0]}"\nb.png,"{names[1]}"\n'))
    assert found.classes == names


def test_columns_that_number_rows_and_parts_are_no_findings(tmp_path: Path) -> None:
    found = read_label_table(table(tmp_path, "Unnamed: 0,path,A,B,fold\n0,a.png,1,0,1\n1,b.png,0,1,0\n"))
    assert found.classes == ("A", "B")
    assert found.notes == ("columns not used: Unnamed: 0, fold",)


def test_no_finding_is_known_however_it_is_written(tmp_path: Path) -> None:
    found = read_label_table(
        table(tmp_path, "path,findings\na.png,NoFinding\nb.png,No-Finding\nc.png,A\nd.png,B\n")
    )
    assert found.classes == ("A", "B")


@pytest.mark.parametrize("column", ["PatientID", "patientId", "subject_id", "Subject", "Patient ID"])
def test_patients_are_known_by_the_columns_of_public_tables(tmp_path: Path, column: str) -> None:
    found = read_label_table(table(tmp_path, f"path,class,{column}\na.png,A,1\nb.png,B,2\n"))
    assert [row.patient for row in found.rows] == ["1", "2"]
    assert not found.notes


def test_a_patient_written_otherwise_is_the_same(tmp_path: Path) -> None:
    for number in range(5):
        picture(tmp_path / f"{number}.png", number)
    file = table(
        tmp_path,
        "path,class,patient\n0.png,A,P1\n1.png,B,p1 \n2.png,A,17\n3.png,B,17.0\n4.png,B,\n4.png,B,P1\n",
    )
    found = load_labels(LabelSource(file), min_per_class=1)
    assert not found.skipped
    whose = dict(zip([path.name for path in found.files], found.groups, strict=True))
    assert whose["0.png"] == whose["1.png"] == whose["4.png"]
    assert whose["2.png"] == whose["3.png"] != whose["0.png"]


def test_folders_whose_names_differ_in_case_alone_are_refused(tmp_path: Path) -> None:
    for place in ("A/1.png", "a/2.png", "B/3.png"):
        picture(tmp_path / place, 1)
    with pytest.raises(DatasetError, match="'A' and 'a' differ only"):
        load_labels(LabelSource(tmp_path), min_per_class=1)
