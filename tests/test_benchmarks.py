"""Benchmarks are run seldom; what they import from the project is still there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
OURS = ("db", "worker", "producer", "benchmarks")
FILES = sorted((PROJECT / "benchmarks").glob("*.py"))


def names_of(module: Path) -> set[str]:
    """What a module defines or imports, without running it."""
    found = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_what_a_benchmark_imports_exists(file: Path) -> None:
    missing = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in OURS:
            place = PROJECT / str(node.module).replace(".", "/")
            module = place.with_suffix(".py") if not place.is_dir() else place / "__init__.py"
            assert module.exists(), f"{node.module} is gone"
            known = names_of(module)
            missing += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if alias.name not in known and not (place / f"{alias.name}.py").exists()
            ]
    assert missing == []
