"""A store in a bucket: the verbs, several writers at once, killed writers, what is wrong told."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command import environment, inside, one_object, vlmrecipes
from PIL import Image
from s3 import SECRET, VARIABLES, Server, answering, served

from vlmrecipes.data.manifests import create_manifest, numbers, remove_manifest
from vlmrecipes.data.place import is_remote, unreachable
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.data.store import Store, columns
from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.ingestion import ingest


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served() as running:
        yield running


@pytest.fixture
def here(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process reach the server too."""
    for name, value in server.variables.items():
        monkeypatch.setenv(name, value)


def declared(folder: Path, name: str, count: int, *, shade: int = 0) -> Path:
    """Write a set of `count` pictures, the first half of which every set has."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        own = 0 if number < count // 2 else shade
        Image.new("RGB", (40, 20), (own, number, 7)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "text": f"{number} of {own}"})
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    file = folder / f"{name}.toml"
    file.write_text(
        f'name = "{name}"\n[[source]]\ntype = "jsonl"\npath = "rows.jsonl"\nimage = "{{image}}"\n'
        'prompt = "Read."\nanswer = "{text}"\n',
        "utf-8",
    )
    return file


def started(file: Path, store: str, server: Server) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vlmrecipes", "ingest", str(file), "--workers", "1", "--store", store, "--json"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, env=environment(**server.variables), text=True)


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    result: dict[str, Any] = json.loads(out)
    return result


def read_whole(store: str, name: str) -> int:
    """Read all samples and images of a snapshot, and return how many samples there are."""
    snapshot = open_snapshot(store, name)
    samples = snapshot.samples()
    assert len({sample.id for sample in samples}) == len(samples) == snapshot.manifest["samples"]
    keys = [key for sample in samples for key in sample.images]
    assert len(snapshot.reader().read(keys)) == len(keys)
    return len(samples)


@pytest.mark.usefixtures("here")
def test_three_writers_of_one_set_make_one_snapshot(server: Server, tmp_path: Path) -> None:
    store, file = "s3://bucket/same", declared(tmp_path, "same", 20)
    results = [finished(process) for process in [started(file, store, server) for _ in range(3)]]
    assert sorted(result["unchanged"] for result in results) == [False, True, True]
    assert {result["snapshot"] for result in results} == {"same@1"}
    alone = one_object(vlmrecipes("ingest", file, "--store", tmp_path / "alone", "--json"))
    assert {result["fingerprint"] for result in results} == {alone["fingerprint"]}
    assert read_whole(store, "same") == 20


@pytest.mark.usefixtures("here")
def test_three_writers_of_different_rows_of_one_set_make_three_snapshots(server: Server, tmp_path: Path) -> None:
    store = "s3://bucket/rivals"
    files = [declared(tmp_path / str(turn), "rivals", 20, shade=50 + turn) for turn in range(3)]
    results = [finished(process) for process in [started(file, store, server) for file in files]]
    assert sorted(result["snapshot"] for result in results) == ["rivals@1", "rivals@2", "rivals@3"]
    for file, result in zip(files, results, strict=True):
        alone = one_object(vlmrecipes("ingest", file, "--store", file.parent / "alone", "--json"))
        assert result["fingerprint"] == alone["fingerprint"]
        assert read_whole(store, result["snapshot"]) == 20
        local = open_snapshot(str(file.parent / "alone"), "rivals").samples()
        assert open_snapshot(store, result["snapshot"]).samples() == local


@pytest.mark.usefixtures("here")
def test_three_writers_of_different_sets_lose_and_double_no_image(server: Server, tmp_path: Path) -> None:
    store = "s3://bucket/sets"
    files = [declared(tmp_path / name, name, 20, shade=60 + place) for place, name in enumerate(("a", "b", "c"))]
    results = [finished(process) for process in [started(file, store, server) for file in files]]
    assert sorted(result["snapshot"] for result in results) == ["a@1", "b@1", "c@1"]
    assert [read_whole(store, name) for name in ("a", "b", "c")] == [20, 20, 20]
    keys = columns(Store(store).images(), ("key",))["key"].to_pylist()
    assert len(keys) == len(set(keys)) == 10 + 3 * 10


@pytest.mark.usefixtures("here")
def test_a_killed_writer_harms_nothing_and_the_next_finishes_the_work(server: Server, tmp_path: Path) -> None:
    store, file = "s3://bucket/killed", declared(tmp_path, "set", 20)
    finished(started(file, store, server))
    before = open_snapshot(store, "set@1").samples()
    declared(tmp_path, "set", 30, shade=90)
    kills = 0
    for prefix in ("killed/images.lance/_versions", "killed/samples-set.lance/_versions", "killed/drops-set.lance"):
        there, process = server.keys(prefix), started(file, store, server)
        until = time.monotonic() + 30
        while process.poll() is None and server.keys(prefix) <= there and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
        assert open_snapshot(store, "set@1").samples() == before
    assert kills >= 2
    done = finished(started(file, store, server))
    assert (done["snapshot"], read_whole(store, "set@2")) == ("set@2", 30)
    assert read_whole(store, "set@1") == 20


@pytest.mark.usefixtures("here")
def test_a_run_goes_through_and_keys_are_written_nowhere(server: Server, tmp_path: Path) -> None:
    assert vlmrecipes("init", tmp_path / "project").returncode == 0
    store, variables = "s3://bucket/whole/path", server.variables | {"VLMRECIPES_RUNS": str(tmp_path / "runs")}
    project = {"cwd": tmp_path / "project"} | variables | {"VLMRECIPES_STORE": store}
    one_object(vlmrecipes("ingest", "datasets/example.toml", "--json", **project))
    settings = [
        f"--set={one}" for one in ("train.steps=1", "train.batch_size=2", "eval.limit=2", "eval.baseline=false")
    ]
    result = one_object(vlmrecipes("run", "recipes/example.toml", *settings, "--json", **project))
    assert (result["status"], result["snapshot"]) == ("complete", "example@1")
    assert Path(result["record"]).is_relative_to(tmp_path / "runs")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in data for data in [*written, *server.contents()])


def said(*words: object) -> Any:
    return one_object(inside("snapshots", *words, "--json"))


@pytest.mark.usefixtures("here")
def test_every_verb_about_snapshots_works_and_pruning_frees_what_it_says(server: Server, tmp_path: Path) -> None:
    store = "s3://bucket/verbs"
    at, files = ("--store", store), [declared(tmp_path / name, name, 20, shade=9) for name in ("set", "other")]
    for number in range(10, 20):  # the other set has not got these
        noise = random.Random(number).randbytes(60 * 60 * 3)
        Image.frombytes("RGB", (60, 60), noise).save(tmp_path / "set" / f"{number}.png")
    for file in files:
        ingest(file, store=store, workers=1)
    made = declared(tmp_path / "set", "set", 24, shade=80)
    assert ingest(made, store=store, workers=1)["snapshot"] == "set@2"
    assert said("tag", "set@1", "paper", *at)["labels"] == ["paper"]
    assert [row["snapshot"] for row in said("list", *at)["snapshots"]] == ["other@1", "set@1", "set@2"]
    shown = said("show", "set@paper", "--html", tmp_path / "page.html", *at)
    assert (shown["snapshot"], shown["statistics"]["images"]["count"]) == ("set@1", 20)
    assert "data:image/" in (tmp_path / "page.html").read_text("utf-8")
    moved = said("diff", "set@1", "set@2", *at)
    assert (moved["added"], moved["removed"], moved["unchanged"]) == (14, 10, 10)
    assert said("verify", "set@2", *at) == {
        "snapshot": "set@2", "ok": True, "problems": [], "samples": 24, "images": 24,
    }  # fmt: skip
    wrote = said("export", "set@paper", "--format", "parquet,imagefolder", "-o", tmp_path / "out", *at)
    assert (wrote["snapshot"], len(list((tmp_path / "out").rglob("*.png")))) == ("set@1", 20)
    assert said("tag", "set@1", "paper", "--remove", *at)["labels"] == []
    assert said("prune", *at)["snapshots"] == ["set@1"]
    before = server.bytes("verbs")
    found = said("prune", "--yes", *at)
    assert (found["snapshots"], found["images"]) == (["set@1"], 10)
    assert found["bytes_freed"] > 100_000
    assert [row["snapshot"] for row in said("list", *at)["snapshots"]] == ["other@1", "set@2"]
    # In a bucket what pruning itself writes of manifests (both that stay are moved), versions and tags is not taken off.
    assert found["bytes_freed"] - 180_000 < before - server.bytes("verbs") <= found["bytes_freed"] + 10_000
    assert said("verify", "set@2", *at)["ok"]
    assert read_whole(store, "other@1") == 20


@pytest.mark.usefixtures("here")
def test_a_manifest_is_created_once_and_can_be_removed() -> None:
    store, manifest = "s3://bucket/manifests", {"name": "x", "number": 1, "version": 1}
    assert create_manifest(store, manifest)
    assert not create_manifest(store, manifest | {"samples": 3})
    assert numbers(store, "x") == [1]
    remove_manifest(store, "x", 1)
    assert numbers(store, "x") == []


@pytest.mark.parametrize(
    ("change", "store", "told"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://bucket/x", "set AWS_ACCESS_KEY_ID"),
        ({}, "s3://no-such-bucket/x", "no such bucket"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "s3://bucket/x", "AWS_ENDPOINT_URL"),
    ],
)
def test_a_bucket_that_cannot_be_reached_is_told_with_the_way_out(
    server: Server, tmp_path: Path, change: dict[str, str], store: str, told: str
) -> None:
    variables = {name: value for name, value in (server.variables | change).items() if value}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", "vlmrecipes", "snapshots", "list", "--store", store]
    outside = {"HOME": str(tmp_path), "PYTHONPATH": environment()["PYTHONPATH"]}
    done = subprocess.run(
        command, env=kept | outside | variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (301, "PermanentRedirect", "another region"),
        (400, "AuthorizationHeaderMalformed", "another region"),
        (400, "ExpiredToken", "renew AWS_SESSION_TOKEN"),
        (400, "InvalidRequest", "look at AWS_ENDPOINT_URL and AWS_REGION"),
        (403, "AccessDenied", "s3:ListBucket"),
        (403, "InvalidAccessKeyId", "look at AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", "look at AWS_SECRET_ACCESS_KEY"),
        (404, "NoSuchBucket", "no such bucket"),
        (503, "SlowDown", "call again later"),
    ],
)
def test_what_a_server_answers_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, status: int, code: str, told: str
) -> None:
    with answering(status, f"<Error><Code>{code}</Code></Error>".encode()) as endpoint:
        for name, value in (VARIABLES | {"AWS_ENDPOINT_URL": endpoint}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreError, match=told):
            Store("s3://bucket/x").has("images")


def test_numbers_in_an_address_or_a_time_are_not_taken_for_a_status() -> None:
    text = "uri: Some(http://127.0.0.1:40403/bucket), elapsed: 487.403ms, inner: Http(HttpError { kind: Connect })"
    assert "AWS_ENDPOINT_URL" in str(unreachable("s3://bucket/x", ValueError(text)))


@pytest.mark.parametrize("uri", ["ftp://host/x", "s3://", f"s3://key:{SECRET}@bucket/x"])
def test_other_uris_are_refused_and_not_repeated_with_their_secrets(uri: str) -> None:
    with pytest.raises(InputError) as caught:
        is_remote(uri)
    assert SECRET not in str(caught.value)
    done = vlmrecipes("ingest", "datasets/noto-emoji.toml", "--store", uri, VLMRECIPES_DATA="/nowhere")
    assert done.returncode == 2
    assert SECRET not in done.stderr
