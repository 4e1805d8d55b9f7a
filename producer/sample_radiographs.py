"""The sample radiographs of the package: real chest X-rays to try xraycam out on, copied into a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from worker.errors import XraycamError

SAMPLES = Path(__file__).parent / "samples"
NOTICE_FILE = "NOTICE.txt"


def sample_files() -> tuple[Path, ...]:
    """The radiographs, relative to `SAMPLES`: `CLASS/NAME.png`, in order."""
    return tuple(sorted(file.relative_to(SAMPLES) for file in SAMPLES.glob("*/*.png")))


def copy_samples(folder: Path) -> int:
    """Copy the radiographs into `folder`, in a sub-folder for each class, with the notice; give their number.

    Raises XraycamError unless `folder` is new, empty, or holds these samples and nothing else.
    """
    wanted = (Path(NOTICE_FILE), *sample_files())
    try:
        foreign = _foreign(folder, set(wanted))
        if foreign:
            raise XraycamError(
                f"{folder} holds something else than samples ({foreign[0]!r}): name a new or empty folder"
            )
        for file in wanted:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            target = folder / file
            # What is there already keeps its time, so that a run does not take it for changed.
            if not target.exists() or target.read_bytes() != (SAMPLES / file).read_bytes():
                shutil.copyfile(SAMPLES / file, target)
    except (FileExistsError, NotADirectoryError):
        raise XraycamError(f"{folder} is a file: name a new or empty folder for the samples") from None
    except OSError as error:
        raise XraycamError(
            f"{folder} cannot be written ({error.strerror}): name another folder for the samples"
        ) from None
    return len(wanted) - 1


def _foreign(folder: Path, wanted: set[Path]) -> list[str]:
    """What is in `folder` and no sample: other files, and links, which would be written through."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_symlink() or (not path.is_dir() and path.relative_to(folder) not in wanted)
    )
