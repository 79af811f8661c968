"""Published files, fetched once and kept.

A file is downloaded to a temporary name beside its place in the cache, checked, and renamed: what
bears the final name is whole. A cut connection is resumed where it broke, also by a later process.
Two processes that want the same file share one download.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import time
import urllib.parse
import zipfile

import filelock
import requests
import tqdm
from absl import logging

from vit_keras.files import replace_when_done

_CHUNK = 1 << 17  # bytes; a reset connection loses at most what is in the current one
_TIMEOUT = 30.0  # seconds without a byte before a connection counts as dead
_MAX_WAIT = 60.0  # seconds between two attempts
# Statuses that another attempt may cure; every other one from 400 up is final.
_PASSING = {408, 425, 429, 500, 502, 503, 504}


class DownloadError(OSError, ValueError):
    """A file could not be fetched whole: both an I/O error and an error about its address.

    Attributes:
      status: the HTTP status that ended the download, None where it wasn't one.
    """

    def __init__(self, message: str, status: int | None = None):
        super().__init__(message)
        self.status = status


class _AlteredError(DownloadError):
    """All bytes arrived, but they are not the file that was announced."""


class _CutError(Exception):
    """The connection broke, or the server is busy: worth another attempt."""

    def __init__(self, message: str, wait: float = 0.0):
        super().__init__(message)
        self.wait = wait


def cache_directory(cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Where downloads are kept: `cache_dir`, else $VIT_KERAS_CACHE, else ~/.cache/vit_keras."""
    chosen = cache_dir or os.environ.get("VIT_KERAS_CACHE") or "~/.cache/vit_keras"
    return pathlib.Path(chosen).expanduser()


def is_remote(path: str | os.PathLike) -> bool:
    """Whether `path` is something `download` takes: http://, https:// or gs://."""
    return re.match(r"(https?|gs)://", os.fspath(path)) is not None


def https_url(url: str) -> str:
    """The one spelling of `url` that is requested and that names it in the cache.

    `gs://bucket/object` becomes https://storage.googleapis.com/bucket/object (or, when the
    environment variable STORAGE_EMULATOR_HOST is set, the same object at that host); characters
    such as the "+" of "imagenet21k+imagenet2012" are percent-encoded.

    Raises:
      ValueError: when `url` is neither http://, https:// nor gs://bucket/object.
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https", "gs") or not parts.netloc or not parts.path.strip("/"):
        raise ValueError(f"url is {url!r}; expected https://..., http://... or gs://bucket/object.")
    if parts.scheme == "gs":
        host = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        host = host if "://" in host else f"http://{host}"
        # An object's name may hold "?" and "#", which urlsplit took for a query and a fragment.
        name = url[len("gs://") :]
        return f"{host.rstrip('/')}/{urllib.parse.quote(name)}"
    path = urllib.parse.quote(urllib.parse.unquote(parts.path))
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def cached_path(url: str, cache_dir: str | os.PathLike | None = None) -> pathlib.Path:
    """Where `url` is kept: a readable name, made unique by a hash of the whole address.

    Two buckets may hold files of the same name (`imagenet21k/ViT-B_16.npz` and
    `sam/ViT-B_16.npz`), so the base name alone would mix them up.
    """
    url = https_url(url)
    base = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rsplit("/", 1)[-1]
    stem, suffix = os.path.splitext(re.sub(r"[^\w.+-]", "_", base))
    identity = hashlib.sha256(url.encode()).hexdigest()[:16]
    return cache_directory(cache_dir) / f"{stem[:160]}-{identity}{suffix[:16]}"


def download(
    url: str,
    cache_dir: str | os.PathLike | None = None,
    *,
    progress: bool = True,
    sha256: str | None = None,
    size: int | None = None,
    retries: int = 5,
    backoff: float = 1.0,
) -> str:
    """Fetches `url` into the cache, unless it is there already, and returns its local path.

    Args:
      url: https://, http:// or gs://bucket/object (public objects).
      cache_dir: the directory to keep it in; see `cache_directory` for the default.
      progress: whether to show a bar on stderr.
      sha256: hexadecimal digest that the file must have; also checked of a cached file.
      size: bytes that the file must have.
      retries: attempts in a row that bring no new byte before giving up.
      backoff: seconds before the second attempt; doubled for each further one.

    Returns:
      The path of a file that is complete: as long as the server announced, with the MD5 the server
      announced (Google Cloud Storage does), and if its name ends in .npz, a zip archive whose every
      member has its checksum.

    Raises:
      DownloadError: (an OSError and a ValueError) when the server refuses, can't be reached, keeps
        breaking off, sends a web page, or sends other bytes than announced. Nothing is left under
        the final name then; what arrived of a broken download is kept to be resumed.
      ValueError: when `url` is not an address of a known kind.
    """
    address = https_url(url)
    path = cached_path(url, cache_dir)
    job = _Job(url, address, path, progress, sha256 and sha256.lower(), size, retries, backoff)
    if job.is_cached():
        return str(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        logging.info("Another process is downloading %s; waiting for it.", url)
        lock.acquire()
    try:
        if not job.is_cached():  # the process that held the lock may have fetched it
            job.run()
    finally:
        lock.release()
    return str(path)


def local_path(
    path: str | os.PathLike, cache_dir: str | os.PathLike | None = None, **options
) -> str:
    """`path` itself, or where `download` put it (with its `options`) when it is remote."""
    path = os.fspath(path)
    return download(path, cache_dir, **options) if is_remote(path) else path


@dataclasses.dataclass
class _Job:
    """One download: `run` leaves the file at `path`, or raises and leaves nothing there."""

    url: str  # as the user wrote it, for messages
    address: str
    path: pathlib.Path
    progress: bool
    sha256: str | None
    size: int | None
    retries: int
    backoff: float

    @property
    def part(self) -> pathlib.Path:
        return self.path.with_name(self.path.name + ".part")

    @property
    def note(self) -> pathlib.Path:
        """What the server said of the file: validator and size. For resuming, and for readers."""
        return self.path.with_name(self.path.name + ".json")

    def is_cached(self) -> bool:
        """Whether the file is there and has the length it was downloaded with."""
        if not self.path.is_file():
            return False
        try:
            self._check(self.path, self._read_note().get("size"), md5=None, thorough=False)
        except _AlteredError as error:
            logging.warning("The cached file was changed: %s Fetching it anew.", error)
            return False
        return True

    def run(self) -> None:
        """Attempts until the file is whole.

        Raises:
          DownloadError: when `retries` attempts in a row brought nothing new.
        """
        resumed = self.part.exists() and self.part.stat().st_size > 0
        best, failures = 0, 0
        while True:
            try:
                self._attempt()
                return
            except _AlteredError as error:
                self.part.unlink(missing_ok=True)
                if not resumed:
                    raise
                # Two versions of the file may have been joined: once more, from the start.
                logging.warning("%s Downloading it again from the start.", error)
                resumed, best = False, 0
            except _CutError as error:
                have = self.part.stat().st_size if self.part.exists() else 0
                resumed = resumed or have > 0
                failures = 0 if have > best else failures + 1
                best = max(best, have)
                if failures >= self.retries:
                    raise DownloadError(
                        f"Downloading {self.url} failed {failures} times in a row: {error} "
                        f"{have:,} bytes are kept; call again to go on from there."
                    ) from error
                wait = min(max(error.wait, self.backoff * 2.0 ** (failures - 1)), _MAX_WAIT)
                logging.warning("%s: %s Trying again in %.1f s.", self.url, error, wait)
                time.sleep(wait)

    def _attempt(self) -> None:
        """One request; returns with the file in its place."""
        offset = self.part.stat().st_size if self.part.exists() else 0
        note = self._read_note() if offset else {}
        headers = {"Accept-Encoding": "identity", "User-Agent": "vit_keras"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if note.get("validator"):  # a changed file is then sent whole instead
                headers["If-Range"] = note["validator"]
        try:
            with requests.get(
                self.address, headers=headers, stream=True, timeout=_TIMEOUT
            ) as response:
                md5, total = self._receive(response, offset, note)
        except requests.exceptions.RequestException as error:
            if isinstance(error, (requests.exceptions.InvalidURL, requests.TooManyRedirects)):
                raise DownloadError(f"{self.url} can't be requested: {error}") from error
            raise _CutError(f"the connection broke ({error}).") from error
        self._check(self.part, total, md5, thorough=True)
        os.replace(self.part, self.path)

    def _receive(
        self, response: requests.Response, offset: int, note: dict
    ) -> tuple[str | None, int | None]:
        """Writes the body to the part file; returns the announced MD5 and size of the whole."""
        status = response.status_code
        span = re.fullmatch(
            r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "")
        )
        if status == 416:  # nothing after `offset`: all there already, or the part is of no use
            if span and span[2] == str(offset) and note.get("size") in (None, offset):
                return note.get("md5"), offset
            self.part.unlink(missing_ok=True)
            ends = f"the server says that the file ends after {span[2]} bytes" if span else ""
            announced = f"it announced {note['size']:,}" if note.get("size") is not None else ""
            detail = "; ".join(filter(None, (ends, announced))) or "the server can't resume"
            raise _CutError(f"{detail}; starting anew.")
        self._refuse(response)
        resuming = status == 206 and span is not None and span[1] == str(offset)
        if status == 206 and not resuming:
            self.part.unlink(missing_ok=True)
            raise _CutError("the server sent another range than asked for; starting anew.")
        offset = offset if resuming else 0  # a server that ignores ranges sends all of it again
        total = self._announced_size(response, span)
        if resuming and note.get("size") is not None and note["size"] != total:
            self.part.unlink(missing_ok=True)
            raise _CutError("the file changed on the server; starting anew.")
        if self.size is not None and total is not None and total != self.size:
            raise DownloadError(
                f"{self.url} has {total:,} bytes according to the server; expected {self.size:,}."
            )
        md5 = _announced_md5(response)
        # Where the body ends early, urllib3 would raise and drop the last chunk; keep it instead:
        # the length is compared below.
        response.raw.enforce_content_length = False
        self._write_note(response, total, md5)
        with (
            open(self.part, "ab" if resuming else "wb") as file,
            tqdm.tqdm(
                total=total,
                initial=offset,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                desc=self.path.name,
                disable=None if self.progress else True,  # None: on a terminal only
            ) as bar,
        ):
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
        have = self.part.stat().st_size
        if total is not None and have < total:
            raise _CutError(f"the connection ended after {have:,} of {total:,} bytes.")
        return md5, total

    def _refuse(self, response: requests.Response) -> None:
        """Raises when what is coming isn't the file."""
        status = response.status_code
        said = f"{status} {response.reason}"
        if status in _PASSING:
            wait = response.headers.get("Retry-After", "")
            raise _CutError(f"the server answered {said}.", float(wait) if wait.isdigit() else 0.0)
        if status in (401, 403) and self.url.startswith("gs://"):
            raise DownloadError(
                f"{self.url} is not public (the server answered {said}). Copy it with "
                "`gcloud storage cp` and give the local path.",
                status,
            )
        if status not in (200, 206):
            raise DownloadError(f"{self.url}: the server answered {said}.", status)
        kind = response.headers.get("Content-Type", "")
        if kind.startswith("text/html") and self.path.suffix not in (".html", ".htm"):
            raise DownloadError(
                f"{self.url}: the server sent a web page ({kind}) instead of the file: an error "
                "page, or a network that asks to log in first."
            )

    def _announced_size(self, response: requests.Response, span: re.Match | None) -> int | None:
        if response.headers.get("Content-Encoding", "identity") != "identity":
            return None  # Content-Length counts compressed bytes
        if response.status_code == 206:
            return int(span[2]) if span[2].isdigit() else None
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None

    def _check(
        self, path: pathlib.Path, total: int | None, md5: str | None, thorough: bool
    ) -> None:
        """Raises `_AlteredError` when the file at `path` isn't what it should be.

        `thorough` reads all of it; without, only its length and the zip archive's directory are
        looked at (and the SHA-256, when one was asked for).
        """
        have = path.stat().st_size
        for expected, source in ((total, "the server announced"), (self.size, "expected")):
            if expected is not None and have != expected:
                raise _AlteredError(f"{self.url} has {have:,} bytes; {source} {expected:,}.")
        if thorough and md5 is not None and (found := _digest(path, "md5")) != md5:
            raise _AlteredError(
                f"{self.url} was altered on its way: its MD5 is {found}, announced was {md5}."
            )
        if self.sha256 is not None and (found := _digest(path, "sha256")) != self.sha256:
            raise _AlteredError(f"{self.url} has the SHA-256 {found}; expected {self.sha256}.")
        if self.path.suffix == ".npz":
            self._check_zip(path, thorough)

    def _check_zip(self, path: pathlib.Path, thorough: bool) -> None:
        try:
            with zipfile.ZipFile(path) as archive:
                damaged = archive.testzip() if thorough else None
        except Exception as error:  # zipfile lets through what a broken header makes it do
            with open(path, "rb") as file:
                start = file.read(32)
            raise _AlteredError(
                f"{self.url} is not a whole .npz file: {error} (it begins with {start!r})."
            ) from error
        if damaged:
            raise _AlteredError(f"{self.url} is damaged: the checksum of {damaged} is wrong.")

    def _read_note(self) -> dict:
        try:
            note = json.loads(self.note.read_text())
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) and note.get("url") == self.address else {}

    def _write_note(self, response: requests.Response, total: int | None, md5: str | None) -> None:
        etag = response.headers.get("ETag", "")
        # RFC 9110, 13.1.5: If-Range takes strong validators only.
        validator = response.headers.get("Last-Modified") if etag.startswith("W/") else etag
        note = {"url": self.address, "size": total, "md5": md5, "validator": validator or None}
        with replace_when_done(self.note) as temporary:
            temporary.write_text(json.dumps(note, indent=2) + "\n")


def _announced_md5(response: requests.Response) -> str | None:
    """The MD5 in Google Cloud Storage's `x-goog-hash`, where it is of the bytes that are sent."""
    if response.headers.get("x-goog-stored-content-encoding", "identity") != "identity":
        return None  # it is of the compressed object
    match = re.search(r"md5=([A-Za-z0-9+/]+=*)", response.headers.get("x-goog-hash", ""))
    return base64.b64decode(match[1]).hex() if match else None


def _digest(path: pathlib.Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
