"""Which environment variables our processes see: those that are needed, and none of a person's other work.

Variables such as MPLBACKEND, KERAS_BACKEND, TF_*, PYTHONPATH or BROKER_URL are set for other programs, and
break ours: an allow list keeps out also those that nobody has thought of. XRAYCAM_KEEP_ENV names more.
"""

from __future__ import annotations

import importlib.util
import os
import site
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from worker.relative_paths import absolute_variables

if TYPE_CHECKING:
    from worker.settings import Settings

KEEP_ENV = "XRAYCAM_KEEP_ENV"

# User, system and locale; proxies and certificates; shared libraries.
_SYSTEM = (
    "HOME", "USER", "LOGNAME", "SHELL", "PATH", "PWD", "TMPDIR", "TZ", "HOSTNAME", "LANG", "LANGUAGE", "LC_*",
    "XDG_*", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_*", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy",
    "all_proxy", "no_proxy", "MALLOC_*", "COVERAGE_*",
)  # fmt: skip
# Processors, threads and the log of native libraries; nothing that changes what is computed.
_DEVICES = (
    "CUDA_*", "NVIDIA_*", "NCCL_*", "ROCR_*", "HIP_*", "OMP_*", "MKL_*", "OPENBLAS_*", "TF_CPP_MIN_LOG_LEVEL",
    "TF_FORCE_GPU_ALLOW_GROWTH", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS",
)  # fmt: skip
# Credentials of model stores and of Postgres. Not PGOPTIONS or PGCLIENTENCODING, which change sessions.
_SERVERS = (
    "AWS_*", "S3_*", "GOOGLE_*", "CLOUDSDK_*", "AZURE_*", "FSSPEC_*", "KRB5*", "PGPASSFILE", "PGPASSWORD",
    "PGSERVICE", "PGSERVICEFILE", "PGSSL*", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE",
)  # fmt: skip
# Of Python's own, those that change neither what is imported nor how code runs.
HARMLESS_PYTHON = (
    "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "PYTHONCOERCECLOCALE", "PYTHONDONTWRITEBYTECODE",
    "PYTHONPYCACHEPREFIX", "PYTHONNOUSERSITE", "PYTHONHASHSEED", "PYTHONFAULTHANDLER",
)  # fmt: skip
# For the command line alone: Celery fails on a NO_COLOR that is no truth value.
_TERMINAL = ("TERM", "COLORTERM", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "PAGER", "_XRAYCAM_COMPLETE")
_OURS = ("XRAYCAM_*",)

# Without it pydantic looks through all installed packages for plugins that would change how it behaves.
_NO_PLUGINS = {"PYDANTIC_DISABLE_PLUGINS": "__all__"}

_ALLOWED = _OURS + _SYSTEM + _DEVICES + _SERVERS + HARMLESS_PYTHON


def is_kept(name: str, environ: Mapping[str, str], *, terminal: bool = False) -> bool:
    """Whether our processes see a variable of `environ`; `terminal`: also those of a command line."""
    patterns = (*_ALLOWED, *kept_by_request(environ), *(_TERMINAL if terminal else ()))
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def kept_by_request(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The patterns in XRAYCAM_KEEP_ENV."""
    return tuple(part.strip() for part in environ.get(KEEP_ENV, "").split(",") if part.strip())


def clean_environment(environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """Remove from this process's variables those that are not for us; returns their names.

    Call it before anything imports pydantic.
    """
    foreign = [name for name in environ if not is_kept(name, environ, terminal=True)]
    for name in foreign:
        del environ[name]
    environ.update(_NO_PLUGINS)
    return foreign


def ignore_celery_variables() -> None:
    """Remove what Celery would put above our settings, in processes that Celery itself has started."""
    for name in [name for name in os.environ if name.startswith("CELERY_")]:
        del os.environ[name]


def child_environment(settings: Settings, **more: str) -> dict[str, str]:
    """The environment of a process that we start: ours, the allowed variables, and `more`.

    Keras gets a folder of its own, so that no keras.json of somebody else chooses backend, image layout
    or precision.
    """
    allowed = {name: value for name, value in os.environ.items() if is_kept(name, os.environ)}
    ours = {"KERAS_BACKEND": "tensorflow", "KERAS_HOME": str(_keras_home(settings)), "MPLBACKEND": "agg"}
    ours |= _NO_PLUGINS
    return absolute_variables(allowed) | ours | settings.as_environment() | more


def python_command(module: str) -> list[str]:
    """The command that runs a module of ours: without the working folder and, unless we are installed
    there, the user's packages on the path of imports."""
    celery = importlib.util.find_spec("celery")
    needed = (__file__, celery.origin if celery and celery.origin else "")
    is_of_user = any(Path(file).is_relative_to(site.getusersitepackages()) for file in needed)
    return [sys.executable, "-P", *([] if is_of_user else ["-s"]), "-m", module]


def _keras_home(settings: Settings) -> Path:
    """Our folder for Keras, with the weights that the user's Keras has downloaded already."""
    folder = settings.home / "keras"
    with suppress(OSError, RuntimeError):  # a user without a home folder
        downloaded = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
        folder.mkdir(parents=True, exist_ok=True)
        if downloaded.is_dir() and not (folder / "models").exists():
            (folder / "models").symlink_to(downloaded.absolute(), target_is_directory=True)
    return folder


def is_alive(pid: int) -> bool:
    """Whether a process of this machine has this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
