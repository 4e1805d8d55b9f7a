"""`--preprocessing scale=0-1,size=100,margin=0.05`, read. Without TensorFlow."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelError

SCALES = {
    "0-1": "unit",
    "-1-1": "symmetric",
    "symmetric": "symmetric",
    "0-255": "pixels",
    "imagenet": "imagenet",
    "imagenet-bgr": "imagenet-bgr",
}

_HELP = (
    "--preprocessing scale=SCALE[,size=SIDE][,margin=SHARE], with the scale the model was trained with: "
    f"{', '.join(SCALES)} (0-255 where the model scales by itself)"
)


def preprocessing_from(text: str | None) -> dict[str, Any]:
    """Fields of `Preprocessing`, `size` only where it is said. Raises ModelError."""
    if not text:
        raise ModelError(f"the file does not say how images were prepared: give {_HELP}")
    fields: dict[str, Any] = {}
    for part in text.split(","):
        name, _, value = (one.strip() for one in part.partition("="))
        if name in fields:
            raise ModelError(f"--preprocessing says {name} twice")
        if name == "scale" and value in SCALES:
            fields[name] = SCALES[value]
        elif name == "size" and value.isascii() and value.isdigit() and 32 <= int(value[:9]) <= 2048:
            fields[name] = int(value)
        elif name == "margin" and _share(value) is not None:
            fields[name] = _share(value)
        else:
            raise ModelError(
                f"--preprocessing {part.strip()[:60]!r} is not known; give {_HELP}; "
                "size is from 32 to 2048 and margin from 0 to below 0.4"
            )
    if "scale" not in fields:
        raise ModelError(f"--preprocessing {text[:60]!r} has no scale; give {_HELP}")
    return fields


def _share(value: str) -> float | None:
    try:
        share = float(value)
    except ValueError:
        return None
    return share if 0 <= share < 0.4 else None
