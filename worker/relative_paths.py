"""Relative paths in settings, and in variables that other libraries read, made absolute.

The processes that we start run in another folder than the one the user stands in, so that no folder of
theirs comes first among Python's imports; a relative path would name another file there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL

# Parameters of a broker's URL (redis-py) and of a Postgres URL (libpq) that name files.
_IN_URLS = frozenset(
    {
        "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile",
        "sslrootcert", "sslcert", "sslkey", "sslcrl", "sslcrldir", "passfile", "servicefile",
    }
)  # fmt: skip
# Variables of Python's ssl, requests, curl, libpq, boto3, Google's, Azure's and Kerberos's libraries.
_VARIABLES = frozenset(
    {
        "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PGPASSFILE",
        "PGSERVICEFILE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGSSLCRLDIR",
        "AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE",
        "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG", "AZURE_CLIENT_CERTIFICATE_PATH",
        "AZURE_FEDERATED_TOKEN_FILE", "AZURE_CONFIG_DIR", "KRB5_CONFIG", "KRB5CCNAME",
        "FSSPEC_CONFIG_DIR",
    }
)  # fmt: skip


def absolute_parameter(name: str, value: str) -> str:
    """A parameter of a URL; one that names a file which is there, with its whole path."""
    return _absolute(value) if name in _IN_URLS else value


def absolute_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ`, where a variable that names a file which is there has its whole path."""
    return {name: _absolute(value) if name in _VARIABLES else value for name, value in environ.items()}


def absolute_database(url: URL) -> URL:
    """A ledger's URL whose file, if it has one, is named with its whole path, and so are its certificates."""
    if url.drivername.startswith("sqlite"):
        name = url.database
        if not name or name == ":memory:":
            return url
        # SQLite's own kind of URL, `file:NAME`, where the query says uri=true.
        prefix = "file:" if "uri" in url.query and name.startswith("file:") else ""
        return url.set(database=prefix + str(Path(name.removeprefix(prefix)).absolute()))
    query = {
        name: absolute_parameter(name, value) if isinstance(value, str) else value
        for name, value in url.query.items()
    }
    return url.set(query=query)


def _absolute(value: str) -> str:
    """Words such as `system`, which some of these may be, are left as they are."""
    return str(Path(value).absolute()) if value and Path(value).exists() else value
