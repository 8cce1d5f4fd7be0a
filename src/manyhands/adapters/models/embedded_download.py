"""GGUF files from the Hugging Face Hub, into its ordinary cache.

Invariant: a file that is there whole is never fetched again, and one that is not whole is never
used. A connection that breaks is taken up where it broke, by ``huggingface_hub``; one download at a
time writes a file, whichever process runs it.

``HF_TOKEN``, ``HF_HOME``, ``HF_ENDPOINT`` and ``HF_HUB_OFFLINE`` of the environment count.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import importlib
import io
import os
import re
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manyhands.adapters.models.embedded_header import part_names
from manyhands.errors import ConfigError, ModelError, ModelRefused, ModelUnreachable
from manyhands.hub import library

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_SHOWN_FILES = 12


@dataclass(frozen=True, slots=True)
class HubFile:
    """``file`` of the repository ``repo``; of a model in parts, its first one."""

    repo: str
    file: str
    revision: str | None = None

    def __post_init__(self) -> None:
        parts = self.file.split("/")
        if not _REPO.fullmatch(self.repo) or not self.file or ".." in parts or "" in parts:
            raise ConfigError(
                f"{self} does not name a file of the Hugging Face Hub",
                next="write gguf:<owner>/<repository>:<file>.gguf",
            )

    def __str__(self) -> str:
        return f"gguf:{self.repo}:{self.file}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of one file; ``total`` is None where the Hub does not say."""

    file: str
    done: int
    total: int | None


OnProgress = Callable[[Progress], None]


async def download(source: HubFile, on_progress: OnProgress | None = None) -> Path:
    """Where the file is (of a model in parts: its first), fetched if it is not there yet.

    ``on_progress`` is called in this task's loop, about ten times a second at most. A cancelled
    download stops. Raises `ModelError`: `ModelRefused` where there is no such file or no access to
    it, `ModelUnreachable` where the Hub is not.
    """
    loop, stop = asyncio.get_running_loop(), threading.Event()
    result: Future[Path] = Future()

    def tell(progress: Progress) -> None:
        if stop.is_set():
            raise _Stopped
        if on_progress is not None:
            with contextlib.suppress(RuntimeError):  # the loop is over
                loop.call_soon_threadsafe(on_progress, progress)

    def work() -> None:
        result.set_running_or_notify_cancel()
        try:
            paths = [_fetch(source, name, tell) for name in part_names(source.file)]
            result.set_result(paths[0])
        except (ModelError, ConfigError, _Stopped) as error:
            result.set_exception(error)
        except Exception as error:  # whatever it is, the task must not wait for ever
            result.set_exception(_unknown(source, error))

    # Not the loop's own threads: the interpreter would wait for them when it is told to end.
    threading.Thread(target=work, name=f"download {source}", daemon=True).start()
    try:
        return await asyncio.wrap_future(result)
    finally:
        stop.set()


def cached(source: HubFile) -> Path | None:
    """Where the file is, if it is there whole already; the Hub is not asked."""
    hub = _hub()
    paths = [
        hub.try_to_load_from_cache(source.repo, name, revision=source.revision)
        for name in part_names(source.file)
    ]
    return Path(paths[0]) if all(isinstance(path, str) for path in paths) else None


class _Stopped(Exception):
    """The download is not wanted any more."""


def _hub() -> Any:
    return library("downloads models", "local")


def _fetch(source: HubFile, name: str, tell: OnProgress) -> Path:
    hub = _hub()
    errors = importlib.import_module("huggingface_hub.errors")
    asked = {
        "repo_id": source.repo,
        "filename": name,
        "revision": source.revision,
        "endpoint": _endpoint(),
    }
    try:
        known = hub.hf_hub_download(**asked, dry_run=True)
        if known.is_cached:
            return Path(known.local_path)
        _check_space(source, known.file_size, Path(known.local_path))
        tell(Progress(name, 0, known.file_size))
        return Path(hub.hf_hub_download(**asked, tqdm_class=_bar(name, tell)))
    except errors.GatedRepoError as error:
        raise _refused(
            source,
            "access to the repository has to be granted",
            f"accept its terms at https://huggingface.co/{source.repo}, then set HF_TOKEN",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise _refused(
            source,
            f"there is no repository {source.repo}, or it is private",
            "check the name; for a private one set HF_TOKEN",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise _refused(
            source, f"there is no revision {source.revision}", "leave it out, or correct it"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise _not_reached(source, error) from error
    except errors.EntryNotFoundError as error:
        raise _refused(source, f"there is no file {name} in it", _files(hub, source)) from error
    except errors.HFValidationError as error:
        raise _refused(source, str(error), "correct the name of the repository") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise _no_space(source, str(error)) from error
        raise


def _endpoint() -> str | None:
    """As the environment says now, not when the library was first imported."""
    named = os.environ.get("HF_ENDPOINT", "")
    return named.rstrip("/") or None


def _check_space(source: HubFile, size: int | None, path: Path) -> None:
    """Before gigabytes are fetched in vain."""
    folder = path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise _no_space(
            source, f"{size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free in {folder}"
        )


def _files(hub: Any, source: HubFile) -> str:
    """What there is instead, as advice."""
    try:
        api = hub.HfApi(endpoint=_endpoint())
        found: list[str] = list(api.list_repo_files(source.repo, revision=source.revision))
    except Exception:  # advice only: the error that it belongs to is raised
        return f"see https://huggingface.co/{source.repo}/tree/main for its files"
    models = sorted(name for name in found if name.endswith(".gguf"))
    if not models:
        return "it holds no .gguf file; look for a repository whose name ends in GGUF"
    more = f" and {len(models) - _SHOWN_FILES} more" if len(models) > _SHOWN_FILES else ""
    return f"take one of {', '.join(models[:_SHOWN_FILES])}{more}"


def _refused(source: HubFile, what: str, next: str) -> ModelError:
    return ModelRefused(f"{source}: {what}", next=next)


def _not_reached(source: HubFile, error: Exception) -> ModelError:
    cause = error.__cause__
    if type(cause).__name__ == "OfflineModeIsEnabled":
        return ModelRefused(
            f"{source} is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
            next="unset HF_HUB_OFFLINE, or give the path of a .gguf file",
        )
    why = f"{type(cause or error).__name__}: {cause or error}"
    return ModelUnreachable(
        f"{source}: the Hub cannot be reached: {_brief(why)}",
        next="check the connection, or give the path of a .gguf file",
    )


def _no_space(source: HubFile, what: str) -> ModelError:
    return ModelError(
        f"{source}: the disk is too full: {_brief(what)}",
        next="make room, or set HF_HOME to a folder on a larger disk",
    )


def _unknown(source: HubFile, error: Exception) -> ModelError:
    return ModelUnreachable(
        f"{source}: the download failed: {_brief(f'{type(error).__name__}: {error}')}",
        next="try again; a partial file is not used",
    )


def _brief(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else text[:299] + "…"


def _bar(name: str, tell: OnProgress) -> Any:
    """A progress bar, as ``huggingface_hub`` wants it, that tells instead of drawing."""
    tqdm: Any = importlib.import_module("tqdm.std").tqdm

    class Told(tqdm):
        monitor_interval = 0
        # Of its own: tqdm draws between an acquire and a release that an error skips, and the lock
        # of all bars would be held for ever by a download that was stopped.
        _lock = threading.RLock()

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            told = {**kwargs, "file": io.StringIO(), "disable": False}
            super().__init__(*args, **told)  # pyright: ignore[reportUnknownMemberType]

        def display(self, *_: Any, **__: Any) -> None:
            tell(Progress(name, int(self.n), None if self.total is None else int(self.total)))

        def update_transfer(self, *_: Any) -> None:
            """Bytes that are on their way are counted when they are written."""

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None: ...

    return Told
