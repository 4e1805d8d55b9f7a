"""What the last stage of the Dockerfile says of the image: variables, how it is made, what it starts."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

DOCKERFILE = Path(__file__).resolve().parents[2] / "Dockerfile"


@dataclass
class Image:
    """Build arguments with their defaults, RUN scripts, environment, working folder, entry point."""

    arguments: dict[str, str] = field(default_factory=dict)
    scripts: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    entrypoint: list[str] = field(default_factory=list)


def read_image() -> Image:
    """Read the last stage; `$PATH` in it is that of the image it starts from."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    image = Image()
    for line in text[text.rindex("\nFROM ") + 1 :].splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "ARG":
            name, _, default = rest.partition("=")
            image.arguments[name] = default
        elif word == "RUN":
            image.scripts.append(rest)
        elif word == "ENV":
            image.environment |= dict(item.split("=", 1) for item in shlex.split(rest))
        elif word == "WORKDIR":
            image.folder = rest
        elif word == "USER":
            image.user = rest
        elif word == "ENTRYPOINT":
            image.entrypoint = json.loads(rest)
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    image.environment["PATH"] = re.sub(r"\$PATH\b", path, image.environment["PATH"])
    return image
