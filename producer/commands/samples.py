"""`xraycam samples`: a folder of real chest X-rays to try things out on."""

from __future__ import annotations

from pathlib import Path

import click

from producer.places import LocalPath


@click.command("samples", epilog="Example:  xraycam samples xraycam-samples && xraycam run xraycam-samples")
@click.argument("folder", type=LocalPath(path_type=Path))
def samples_command(folder: Path) -> None:
    """Copy a dozen real chest X-rays into FOLDER: six normal, six with tuberculosis.

    They are of the public Montgomery County set (US National Library of Medicine); the file NOTICE.txt beside
    them says whom to cite. Trainings leave them out. FOLDER must be new, empty, or hold these samples.
    """
    from producer.sample_radiographs import NOTICE_FILE, copy_samples

    count = copy_samples(folder)
    click.echo(f"{count} real chest X-rays in {folder}; source and citations in {folder / NOTICE_FILE}")
