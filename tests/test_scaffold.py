"""Projects of a user's own images: what is guessed, shown, written, and that it runs."""

from __future__ import annotations

import http.server
import io
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command import environment, inside, one_object, vlmrecipes
from PIL import Image

import datasets
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError
from vlmrecipes.ingestion import ingest
from vlmrecipes.recipe import read_recipe
from vlmrecipes.scaffolding import scaffold

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (24 + number, 16), (number * 5 % 256, number * 3 % 256, 9)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(folder: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))


def texts_beside(folder: Path) -> None:
    pictures(folder, [f"{number}.png" for number in range(12)])
    for number in range(12):
        (folder / f"{number}.txt").write_text(f"line {number}")


def classes(folder: Path) -> None:
    pictures(folder, [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(6)])
    for number in range(6):
        (folder / "dog" / f"{number}.png").write_bytes(png(number + 50))


def metadata(folder: Path) -> None:
    pictures(folder, [f"{number}.png" for number in range(14)])
    rows = [{"file_name": f"{n}.png", "caption": f"a picture of {n}", "artist": "ab"[n % 2] * 3} for n in range(14)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def questions(folder: Path) -> None:
    pictures(folder, [f"img/{number}.png" for number in range(14)])
    rows = [
        {
            "questionId": n,
            "question": f"What is {n}?",
            "answers": [str(n)] * 3,
            "picture": f"img/{n}.png",
            "page": n // 2,
        }
        for n in range(14)
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(folder: Path) -> None:
    pictures(folder, [f"{number}.png" for number in range(9)])
    lines = "".join(f"{number}.png,{'漢字仮名'[: number % 4 + 1]}{number}\n" for number in range(9))
    (folder / "rows.csv").write_text("scan,words\n" + lines)


def chats(folder: Path) -> None:
    pictures(folder, [f"{number}.png" for number in range(6)])
    rows = [
        {
            "images": [f"{n}.png"],
            "messages": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": str(n)}],
        }
        for n in range(6)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def pages(folder: Path) -> None:
    pictures(folder, ["one.png"])
    line = '<TextLine ID="l" HPOS="1" VPOS="1" WIDTH="20" HEIGHT="9"><String CONTENT="word"/></TextLine>'
    (folder / "one.xml").write_text(
        '<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Layout><Page><PrintSpace>'
        f'<TextBlock ID="b">{line}</TextBlock></PrintSpace></Page></Layout></alto>'
    )


KINDS: dict[Callable[[Path], None], tuple[dict[str, Any], list[str]]] = {
    texts_beside: (
        {"type": "folder", "image": "{path}", "answer": "{text}", "prompt": "Read the text."},
        ["wer", "cer"],
    ),
    classes: ({"type": "folder", "image": "{path}", "answer": "{parent}", "prompt": "What is it?"}, ["exact"]),
    metadata: (
        {"type": "folder", "image": "{image}", "answer": "{caption}", "metadata": ("artist",)},
        ["rouge_l", "cider"],
    ),
    questions: (
        {
            "type": "jsonl",
            "image": "{picture}",
            "prompt": "{question}",
            "answer": "{answers}",
            "group": "{page}",
        },
        ["vqa"],
    ),
    table: ({"type": "csv", "image": "{scan}", "answer": "{words}", "prompt": "Read the text."}, ["cer"]),
    chats: ({"type": "jsonl", "image": "{images}", "messages": "messages"}, ["anls", "exact"]),
    pages: (
        {"type": "alto", "image": "{image}", "crop": "{polygon}", "group": "{page}", "answer": "{text}"},
        ["wer", "cer"],
    ),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_columns_are_guessed_and_the_data_comes_in(kind: Callable[[Path], None], tmp_path: Path) -> None:
    kind(tmp_path / "My Photos")
    view = scaffold(tmp_path / "project", from_images=tmp_path / "My Photos")
    guessed = {one["key"]: one["value"] for one in view["guessed"]}
    wanted, metrics = KINDS[kind]
    assert {key: guessed.get(key) for key in wanted} == wanted
    assert set(guessed) - set(wanted) <= {"path", "prompt"}
    assert guessed["path"].startswith("../../My Photos")
    recipe = read_recipe(tmp_path / "project" / "recipes" / "my-photos.toml")
    assert (list(recipe.eval.metrics), recipe.data.train) == (metrics, "my-photos")
    result = ingest(tmp_path / "project/datasets/my-photos.toml", store=str(tmp_path / "store"), workers=1)
    assert result["rows"]["samples"] == result["rows"]["read"] > 0


def test_what_was_guessed_is_shown_with_reasons(tmp_path: Path) -> None:
    questions(tmp_path / "docs")
    done = inside("init", "project", "--from-images", "docs", cwd=tmp_path)
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["answer", "{answers}", "by", "name"] in lines
    assert ["question", "What", "is", "0?"] in lines
    assert ["cd", "project"] in lines
    declaration = (tmp_path / "project/datasets/docs.toml").read_text()
    assert re.search(r'prompt = "\{question\}" +# by name, such as What is 0\?', declaration)
    assert one_object(inside("check", *(tmp_path / "project").glob("*s/*.toml"), "--json")) == {"problems": []}


def test_what_the_user_says_wins_over_the_guess(tmp_path: Path) -> None:
    questions(tmp_path / "docs")
    said = ["prompt=Answer: {question}", "limit=7", 'metadata=["page"]', "name=a\x7fb"]
    view = scaffold(tmp_path / "project", from_images=tmp_path / "docs", overrides=said)
    guessed = {one["key"]: one["value"] for one in view["guessed"]}
    assert (guessed["prompt"], guessed["limit"], guessed["metadata"]) == ("Answer: {question}", 7, ("page",))
    result = ingest(tmp_path / "project/datasets/docs.toml", store=str(tmp_path / "store"), workers=1)
    assert result["rows"]["read"] == 7
    for wrong, told in (("answer={nothing}", "column 'nothing' is not in the rows"), ("anwser={x}", "did you mean")):
        with pytest.raises(InputError, match=told):
            scaffold(tmp_path / "other", from_images=tmp_path / "docs", overrides=[wrong])
    assert not (tmp_path / "other").exists()


def test_columns_of_any_name_are_written_so_that_they_are_read(tmp_path: Path) -> None:
    pictures(tmp_path / "docs", [f"{number}.png" for number in range(9)])
    lines = "".join(f"{number},{number}.png,line {number},x\n" for number in range(9))
    (tmp_path / "docs" / "rows.csv").write_text(",Bild (klein),Full Text,{braces}\n" + lines)
    view = scaffold(tmp_path / "project", from_images=tmp_path / "docs")
    guessed = {one["key"]: one["value"] for one in view["guessed"]}
    assert (guessed["image"], guessed["answer"]) == ("{Bild (klein)}", "{Full Text}")
    result = ingest(tmp_path / "project/datasets/docs.toml", store=str(tmp_path / "store"), workers=1)
    assert result["rows"]["samples"] == 9
    texts = open_snapshot(str(tmp_path / "store"), "docs@1").samples()
    assert {sample.answer for sample in texts} == {f"line {number}" for number in range(9)}


def test_nothing_is_written_where_there_is_nothing_to_learn(tmp_path: Path) -> None:
    pictures(tmp_path / "bare", ["a.png", "b.png"])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "rows.jsonl").write_text("{nonsense\n")
    told = {
        "bare": "no column looks like the answers",
        "empty": "the source holds no rows",
        "broken": "no row can be read: not valid JSON",
        "absent": "no such file or folder",
    }
    for name, problem in told.items():
        found = one_object(inside("init", "project", "--from-images", name, "--json", cwd=tmp_path), 2)
        assert problem in found["problems"][0]["problem"], name
        assert found["problems"][0]["file"] == name
    for words in (["--from-images", "bare", "--from-hub", "a/b"], ["--set", "answer={x}"]):
        assert one_object(inside("init", "project", *words, "--json", cwd=tmp_path), 2)["error"]
    assert not (tmp_path / "project").exists()


def test_a_local_copy_of_a_hub_set(tmp_path: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"]), "n": datasets.Value("int64")}
    )
    rows = {
        "image": [{"bytes": png(n), "path": None} for n in range(8)],
        "label": [n % 2 for n in range(8)],
        "n": list(range(8)),
    }
    (tmp_path / "set" / "data").mkdir(parents=True)
    made = datasets.Dataset.from_dict(rows, features=features)
    made.to_parquet(str(tmp_path / "set" / "data" / "train-00000-of-00001.parquet"))
    view = scaffold(tmp_path / "project", from_hub=str(tmp_path / "set"))
    guessed = {one["key"]: one["value"] for one in view["guessed"]}
    assert guessed == {
        "type": "hub",
        "path": "../../set",
        "image": "{image}",
        "answer": "{label}",
        "prompt": "What is it?",
    }
    assert view["columns"]["image"] == "(image)"
    result = ingest(tmp_path / "project/datasets/set.toml", store=str(tmp_path / "store"), workers=1)
    assert result["rows"]["samples"] == 8


@pytest.fixture
def hub() -> Iterator[str]:
    """A server that answers as the hub does about one set, and knows no files of it."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path.startswith("/api/datasets/me/set") and "tree" not in self.path
            body = json.dumps({"id": "me/set", "sha": COMMIT, "siblings": []}).encode() if known else b"{}"
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_hub_set_is_pinned_to_its_commit_or_its_trouble_told(hub: str, tmp_path: Path) -> None:
    online = {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home")}
    found = one_object(vlmrecipes("init", "project", "--from-hub", "me/set", "--json", cwd=tmp_path, **online), 2)
    assert "source[0].repo: cannot be opened" in found["error"], "the commit is known, and it has no rows"
    absent = one_object(inside("init", "project", "--from-hub", "me/absent", "--json", cwd=tmp_path), 2)
    assert "the hub does not give it" in absent["error"]
    assert not (tmp_path / "project").exists()


@pytest.mark.skipif(not shutil.which("make"), reason="no make")
def test_the_makefile_names_verbs_that_exist(tmp_path: Path) -> None:
    scaffold(tmp_path)
    done = subprocess.run(
        ["make", "-n", "all", "look", "plan"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("vlmrecipes ")]
    assert {words[0] for words in commands} == {"check", "ingest", "snapshots", "plan", "run", "report"}
    files = [tmp_path / word for words in commands for word in words if word.endswith(".toml") and "*" not in word]
    assert files
    assert all(file.is_file() for file in files)
    for wanted in ("ingest", "snapshots"):
        words = next(words for words in commands if words[0] == wanted)
        assert inside(*words, cwd=tmp_path).returncode == 0
