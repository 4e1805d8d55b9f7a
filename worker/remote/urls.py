"""Which names are URLs of object stores, and which of those are taken; no URL with a secret in it is."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote, unquote

from worker.errors import XraycamError
from worker.file_names import printable

# Scheme, and the extra that installs what it needs; `memory` is fsspec's own, for tests.
EXTRAS = {"s3": "s3", "gs": "gs", "az": "az", "https": "https", "http": "https", "memory": None}
# Of which listings and files are read, and nothing is written.
WEB = ("https", "http")

# Of the path of a URL, what stands for itself; "%" is there, since links are encoded.
PLAIN = "/%:@!$&'()*+,;=~-._[]"

UNSAFE = "has empty, '.' or '..' parts, or names a version"

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
# pathlib makes s3://bucket/x into s3:/bucket/x.
_FOLDED = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/).+", re.DOTALL)
_QUERY = re.compile(r"\?[^/?=&]+=")


def is_remote(given: str) -> bool:
    """Whether a name is the URL of an object store that is read and written."""
    return given.partition("://")[0] in EXTRAS and "://" in given


def check_url(url: str) -> tuple[str, str]:
    """Scheme, and bucket with prefix. Raises XraycamError for a URL that cannot be meant; the text shows no
    part of it that may be a secret."""
    scheme, _, rest = url.partition("://")
    if "@" in rest.partition("/")[0] or _QUERY.search(rest):
        what = "credentials" if "@" in rest.partition("/")[0] else "a query, which may hold a signature,"
        raise XraycamError(
            f"{scheme}://***: a URL with {what} is not taken; leave that out and set credentials as the "
            "storage's library expects them (AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, ...)"
        )
    place = rest.rstrip("/")
    if scheme in WEB:
        if "?" in place or "#" in place:
            raise XraycamError(f"{scheme}://***: a URL with ? or # is not taken; name a folder of files")
        place = quote(place, safe=PLAIN)
    if not place or not is_safe_key(place):
        raise XraycamError(f"{printable(url)}: names no bucket and prefix; write {scheme}://BUCKET/PREFIX")
    return scheme, place


def is_safe_key(path: str) -> bool:
    """Whether a key is a relative path below its prefix, and no other key means the same."""
    if "\0" in path or "?versionId=" in path:  # which s3fs takes for no part of the key
        return False
    return not {"", ".", ".."} & set(path.split("/"))


def local_path(given: str) -> Path | None:
    """The folder that is meant by a name or a file:// URL; None for a URL of an object store.

    Raises XraycamError for any other URL.
    """
    if is_remote(given):
        return None
    found = _URL.fullmatch(given)
    if found is None or Path(given).exists():
        return Path(given)
    scheme, rest = found.groups()
    if scheme == "file" and rest.startswith("/"):
        plain = Path(rest)
        return plain if plain.exists() else Path(unquote(rest))
    known = ", ".join(f"{name}://" for name in ("file", *EXTRAS) if name not in ("memory", "http"))
    raise XraycamError(f"{without_secrets(given)}: is no URL that is read or written; a folder, {known} are")


def refuse_url(given: Path | str, instead: str = "name a folder") -> None:
    """Raises XraycamError where a folder is needed and a URL was given; pathlib has folded its slashes."""
    text = str(given)
    found = _URL.fullmatch(text) or _FOLDED.fullmatch(text)
    if found is not None and not Path(text).exists():
        shown = without_secrets(text if "://" in text else text.replace(":/", "://", 1))
        raise XraycamError(f"{shown}: is a URL, which is not taken here; {instead}")


def without_secrets(text: str) -> str:
    """A text in which no URL has a user, a password or a query."""
    return printable(
        re.sub(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/\s@\"']*@)?([^\s?\"']*)(\?[^\s\"']*)?", r"\1\2", text)
    )
