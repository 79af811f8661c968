"""Downloads, against a real HTTP server that breaks off, lies and changes its mind."""

import hashlib
import io
import os
import pathlib
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from vit_keras.checkpoints import download as module
from vit_keras.checkpoints.download import (
    DownloadError,
    cached_path,
    download,
    https_url,
    is_remote,
    local_path,
)

FAST = {"backoff": 0.001, "progress": False}


def npz_bytes(seed=0, size=200_000):
    arrays = {"a": np.random.default_rng(seed).integers(0, 255, size, np.uint8), "b": np.ones(3)}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def read(path):
    return pathlib.Path(path).read_bytes()


def cache_files(server_path="cache"):
    directory = module.cache_directory()
    return sorted(os.listdir(directory)) if directory.is_dir() else []


def assert_nothing_final(url):
    assert not cached_path(url).exists()


def test_whole_file_once(file_server):
    content = npz_bytes()
    url = file_server.serve("/bucket/model.npz", content, md5="true")
    path = download(url, **FAST)
    assert read(path) == content
    assert path == str(cached_path(url))
    assert os.path.basename(path).startswith("model-")
    assert path.endswith(".npz")
    assert download(url, **FAST) == path
    assert len(file_server.requests) == 1
    assert not [name for name in cache_files() if name.endswith((".part", ".tmp"))]


def test_same_base_name_in_two_buckets(file_server):
    first = file_server.serve("/imagenet21k/ViT-B_16.npz", npz_bytes(1))
    second = file_server.serve("/sam/ViT-B_16.npz", npz_bytes(2))
    assert read(download(first, **FAST)) == npz_bytes(1)
    assert read(download(second, **FAST)) == npz_bytes(2)
    assert read(download(first, **FAST)) == npz_bytes(1)


def test_gs_and_special_characters(file_server):
    content = npz_bytes()
    name = "vit_models/imagenet21k+imagenet2012/R50+ViT-B_16.npz"
    url = file_server.serve(f"/{name}", content)
    path = download(f"gs://{name}", **FAST)
    assert read(path) == content
    assert path == str(cached_path(url))
    assert file_server.requests[0][0] == f"/{name}"


def test_urls(monkeypatch):
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    wanted = "https://storage.googleapis.com/b/x%2By/m%20n.npz"
    assert https_url("gs://b/x+y/m n.npz") == wanted
    assert https_url("https://storage.googleapis.com/b/x+y/m%20n.npz") == wanted
    assert https_url("gs://b/what?#.npz") == "https://storage.googleapis.com/b/what%3F%23.npz"
    assert https_url("https://h/f.npz?a=b#c") == "https://h/f.npz?a=b"
    assert cached_path("https://h/f.npz?v=1") != cached_path("https://h/f.npz?v=2")
    for bad in ("ftp://h/f", "gs://bucket", "https://", "/local/file", "gs:///f"):
        with pytest.raises(ValueError, match="url is"):
            https_url(bad)
    assert is_remote("gs://b/f")
    assert not is_remote("/a/file.npz")
    assert not is_remote("C:/file.npz")


def test_local_path(file_server, tmp_path):
    assert local_path(tmp_path / "x.npz") == str(tmp_path / "x.npz")
    content = npz_bytes()
    assert read(local_path(file_server.serve("/x.npz", content), **FAST)) == content


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("VIT_KERAS_CACHE", str(tmp_path / "environment"))
    assert module.cache_directory() == tmp_path / "environment"
    assert module.cache_directory(tmp_path / "argument") == tmp_path / "argument"
    monkeypatch.delenv("VIT_KERAS_CACHE")
    assert module.cache_directory() == pathlib.Path.home() / ".cache" / "vit_keras"


def test_very_long_name(file_server):
    content = npz_bytes()
    url = file_server.serve("/" + "x" * 400 + ".npz", content)
    assert read(download(url, **FAST)) == content


def test_resumes_after_cuts(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, cut_after=[50_000, 1, 70_000])
    assert read(download(url, **FAST)) == content
    ranges = [asked for _, asked in file_server.requests]
    assert ranges == [None, "bytes=50000-", "bytes=50001-", "bytes=120001-"]


def test_resumes_after_a_reset(file_server):
    content = npz_bytes(size=3_000_000)
    url = file_server.serve("/m.npz", content, cut_after=[1_500_000], reset=True)
    assert read(download(url, **FAST)) == content
    assert len(file_server.requests) == 2


@pytest.mark.parametrize("ranges", [True, False])
def test_chunked_without_length(file_server, ranges):
    content = npz_bytes(size=1_000_000)
    url = file_server.serve("/m.npz", content, cut_after=[700_000], chunked=True, ranges=ranges)
    assert read(download(url, **FAST)) == content


def test_many_cuts_with_progress_do_not_exhaust_retries(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, cut_after=[10_000] * 12)
    assert read(download(url, retries=2, **FAST)) == content


def test_gives_up_without_progress_and_a_later_call_resumes(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, cut_after=[60_000, 0, 0, 0])
    with pytest.raises(DownloadError, match=r"failed 3 times in a row.*60,000 bytes are kept"):
        download(url, retries=3, **FAST)
    assert_nothing_final(url)
    assert read(download(url, **FAST)) == content
    assert file_server.requests[-1][1] == "bytes=60000-"


def test_server_ignoring_ranges(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, ranges=False, cut_after=[50_000, 60_000])
    assert read(download(url, **FAST)) == content


def test_server_sending_another_range(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, wrong_range=True, cut_after=[50_000])
    assert read(download(url, **FAST)) == content


@pytest.mark.parametrize("etag", ['"v2"', None])
def test_file_changed_between_attempts(file_server, etag):
    """With a validator the server tells; without, the mixture is noticed by its checksums."""
    old, new = npz_bytes(1), npz_bytes(2)
    first_etag = etag and '"v1"'
    url = file_server.serve("/m.npz", old, etag=first_etag, cut_after=[90_000, 0])
    with pytest.raises(DownloadError):
        download(url, retries=1, **FAST)
    file_server.serve("/m.npz", new, etag=etag)
    assert read(download(url, **FAST)) == new


def test_file_replaced_by_a_shorter_one(file_server):
    old, new = npz_bytes(1), npz_bytes(2, size=20_000)
    url = file_server.serve("/m.npz", old, etag=None, cut_after=[90_000, 0])
    with pytest.raises(DownloadError):
        download(url, retries=1, **FAST)
    file_server.serve("/m.npz", new, etag=None)
    assert read(download(url, **FAST)) == new


def test_complete_part_of_a_killed_process(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content)
    part = cached_path(url).with_name(cached_path(url).name + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(content)
    assert read(download(url, **FAST)) == content
    assert [asked for _, asked in file_server.requests] == [f"bytes={len(content)}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_announces_more_than_it_sends(file_server, ranges):
    content = npz_bytes()
    url = file_server.serve(
        "/m.npz", content, announced=len(content) + 100, ranges=ranges, etag='"v1"'
    )
    with pytest.raises(DownloadError, match="in a row") as error:
        download(url, retries=3, **FAST)
    assert f"{len(content) + 100:,}" in str(error.value) or "IncompleteRead" in str(error.value)
    assert_nothing_final(url)


def test_announces_less_than_the_file(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, announced=len(content) - 100)
    with pytest.raises(DownloadError, match=r"not a whole \.npz"):
        download(url, **FAST)
    assert_nothing_final(url)
    assert not [name for name in cache_files() if name.endswith(".part")]


def test_truncated_on_the_server(file_server):
    url = file_server.serve("/m.npz", npz_bytes()[:-1000])
    with pytest.raises(DownloadError, match=r"m\.npz is not a whole \.npz"):
        download(url, **FAST)
    assert_nothing_final(url)


def test_altered_byte_without_md5(file_server):
    content = bytearray(npz_bytes())
    content[100_000] ^= 1
    url = file_server.serve("/m.npz", bytes(content))
    with pytest.raises(DownloadError, match=r"checksum of a\.npy is wrong"):
        download(url, **FAST)
    assert_nothing_final(url)


def test_altered_on_the_way(file_server):
    url = file_server.serve("/table.csv", b"a,b\n1,2\n", md5="AAAAAAAAAAAAAAAAAAAAAA==")
    with pytest.raises(DownloadError, match="altered on its way: its MD5 is"):
        download(url, **FAST)
    assert_nothing_final(url)


def test_md5_of_a_compressed_object_is_not_compared(file_server):
    url = file_server.serve(
        "/table.csv",
        b"a,b\n",
        md5="AAAAAAAAAAAAAAAAAAAAAA==",
        headers={"x-goog-stored-content-encoding": "gzip"},
    )
    assert read(download(url, **FAST)) == b"a,b\n"


def test_web_page_instead_of_the_file(file_server):
    page = b"<html>please log in</html>"
    url = file_server.serve("/m.npz", page, content_type="text/html; charset=utf-8")
    with pytest.raises(DownloadError, match="web page"):
        download(url, **FAST)
    url = file_server.serve("/n.npz", page)
    with pytest.raises(DownloadError, match="begins with b'<html>"):
        download(url, **FAST)
    assert_nothing_final(url)


def test_missing_file_is_not_retried(file_server):
    with pytest.raises(DownloadError, match="404 Not Found") as error:
        download(f"http://{file_server.host}/missing.npz", **FAST)
    assert error.value.status == 404
    assert len(file_server.requests) == 1


def test_errors_are_both_kinds(file_server):
    url = f"http://{file_server.host}/missing.npz"
    with pytest.raises(ValueError, match="404"):
        download(url, **FAST)
    with pytest.raises(OSError, match="404"):
        download(url, **FAST)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_busy_server(file_server, status):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, statuses=[status, status])
    assert read(download(url, **FAST)) == content
    assert len(file_server.requests) == 3


def test_private_object(file_server):
    file_server.serve("/bucket/m.npz", b"", statuses=[403])
    with pytest.raises(DownloadError, match="gcloud storage cp"):
        download("gs://bucket/m.npz", **FAST)


def test_unreachable():
    with pytest.raises(DownloadError, match="failed 2 times"):
        download("http://127.0.0.1:9/m.npz", retries=2, **FAST)


def test_expected_size_and_sha256(file_server):
    content = npz_bytes()
    digest = hashlib.sha256(content).hexdigest()
    url = file_server.serve("/m.npz", content)
    with pytest.raises(DownloadError, match=f"expected {len(content) + 1:,}"):
        download(url, size=len(content) + 1, **FAST)
    with pytest.raises(DownloadError, match="has the SHA-256"):
        download(url, sha256="0" * 64, **FAST)
    assert_nothing_final(url)
    assert read(download(url, size=len(content), sha256=digest.upper(), **FAST)) == content


def test_wrong_expectation_keeps_the_cached_file(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content)
    path = download(url, **FAST)
    with pytest.raises(DownloadError, match="has the SHA-256"):
        download(url, sha256="0" * 64, **FAST)
    assert read(path) == content


@pytest.mark.parametrize("damage", ["truncate", "replace"])
def test_damaged_cache_is_fetched_again(file_server, damage):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content)
    path = pathlib.Path(download(url, **FAST))
    path.write_bytes(content[:1000] if damage == "truncate" else b"\0" * len(content))
    assert read(download(url, **FAST)) == content
    assert len(file_server.requests) == 2


def test_note_of_another_file_is_ignored(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content)
    path = pathlib.Path(download(url, **FAST))
    path.with_name(path.name + ".json").write_text("[1, 2")
    assert download(url, **FAST) == str(path)
    assert len(file_server.requests) == 1


def test_two_processes_download_once(file_server):
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, delay=0.5)
    program = textwrap.dedent(
        f"""
        from vit_keras.checkpoints.download import download
        print(download({url!r}, progress=False))
        """
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", program]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = {
        process.communicate(timeout=120)[0].strip().splitlines()[-1] for process in processes
    }
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs == {str(cached_path(url))}
    assert len(file_server.requests) == 1
    assert read(outputs.pop()) == content


def test_progress_bar(file_server, capsys, monkeypatch):
    """The bar goes to stderr, and counts from where a download is resumed."""
    seen = []
    real = module.tqdm.tqdm

    def recording(*args, **kwargs):
        bar = real(*args, **{**kwargs, "disable": False})
        seen.append(bar)
        return bar

    monkeypatch.setattr(module.tqdm, "tqdm", recording)
    content = npz_bytes()
    url = file_server.serve("/m.npz", content, cut_after=[50_000])
    download(url, backoff=0.001)
    assert [bar.initial for bar in seen] == [0, 50_000]
    assert [bar.n for bar in seen] == [50_000, len(content)]
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "m-" in captured.err
