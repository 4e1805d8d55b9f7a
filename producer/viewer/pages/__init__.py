"""The pages' files, for a report and the server alike: plain scripts, no build step, no other hosts."""

from __future__ import annotations

from pathlib import Path

PAGES = Path(__file__).parent
STYLE = "viewer.css"
_SCRIPTS = ("elements.js", "list.js", "stage.js", "filters.js", "summary.js")
REPORT_SCRIPTS = (*_SCRIPTS, "source_report.js", "viewer.js")
SERVE_SCRIPTS = (*_SCRIPTS, "review.js", "source_serve.js", "viewer.js")
RUNS_SCRIPTS = ("elements.js", "runs.js")
ASSETS = (STYLE, *REPORT_SCRIPTS)


def page(name: str, assets: str, scripts: tuple[str, ...]) -> str:
    """The page `name` with its style and scripts from the folder or path `assets`."""
    tags = "\n".join(f'<script src="{assets}{script}" defer></script>' for script in scripts)
    text = (PAGES / name).read_text(encoding="utf-8")
    return text.replace("<!-- style -->", f'<link rel="stylesheet" href="{assets}{STYLE}">').replace(
        "<!-- scripts -->", tags
    )
