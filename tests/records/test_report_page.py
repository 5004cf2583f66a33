from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from vlmrecipes.errors import InputError, StoreError
from vlmrecipes.records import record, report

EVIL = """<script>alert(1)</script>"'><img src=x onerror=alert(1)>{{ 7*7 }}\x00\u202e"""
VOID = {"meta", "img", "br", "line", "circle", "polyline", "use", "image"}


class Page(HTMLParser):
    """Collects the elements of a page and checks that they are nested rightly."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def none(_: Sequence[str]) -> Mapping[str, bytes]:
    return {}


def page(folders: Sequence[Path], target: Path, images: report.Images = none) -> str:
    report.write_report(folders, target, images)
    return target.read_text(encoding="utf-8")


def test_a_report_is_one_file_that_refers_to_nothing_outside(
    finished: Callable[..., Path], picture: tuple[str, bytes], tmp_path: Path
) -> None:
    text = page(
        [finished()], tmp_path / "report.html", lambda keys: {key: picture[1] for key in keys if key == picture[0]}
    )
    elements = Page(text).elements
    targets = [value for _, attrs in elements for name, value in attrs.items() if name in ("src", "href")]
    assert targets
    assert all(value and value.startswith(("data:image/", "#")) for value in targets)
    assert not {"script", "link", "iframe", "object", "style="} & {tag for tag, _ in elements}
    assert all("style" not in attrs and not any(name.startswith("on") for name in attrs) for _, attrs in elements)
    assert "url(" not in text
    policy = next(attrs["content"] for tag, attrs in elements if attrs.get("http-equiv") == "Content-Security-Policy")
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)
    assert style
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in policy


def test_a_report_can_be_read_without_eyes_or_mouse(
    finished: Callable[..., Path], picture: tuple[str, bytes], tmp_path: Path
) -> None:
    elements = Page(
        page([finished(), finished("20270101-000000-b")], tmp_path / "r.html", lambda _: dict([picture]))
    ).elements
    assert elements[0] == ("html", {"lang": "en"})
    levels = [int(tag[1]) for tag, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(attrs.get("alt") for tag, attrs in elements if tag == "img")
    assert all(attrs.get("aria-label") or attrs.get("aria-hidden") for tag, attrs in elements if tag == "svg")
    ids = [attrs["id"] for _, attrs in elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for _, attrs in elements if (attrs.get("href") or "").startswith("#")} <= set(ids)


def test_a_report_says_what_the_record_says(
    finished: Callable[..., Path], picture: tuple[str, bytes], tmp_path: Path
) -> None:
    folder = finished()
    text = page([folder], tmp_path / "r.html", lambda _: dict([picture]))
    seal = record.read(folder)["seal"]
    for part in ("lines 1.0.0", "lines@3", "0.500", "0.250", "0.225 to 0.275", "cer/ws@1", "CC0-1.0", seal, "polyline"):
        assert part in text, part
    for part in ("Worst 2", "Most improved 1", "Best 1", "failed, no prediction", "stopped at the token limit"):
        assert part in text, part
    assert "go<del>o</del>d" in text
    assert "go<ins>a</ins>d" in text
    assert "T<ins>0</ins>TAL 12" in text
    assert "Picture not found in the store" in text
    # One picture, shown three times, stands there once.
    assert text.count("data:image/") == 1
    assert text.count('<use href="#picture-') == 3


def test_runs_on_the_same_samples_stand_side_by_side(finished: Callable[..., Path], tmp_path: Path) -> None:
    other = {"data": [{"role": "eval", "snapshot": "lines@4", "fingerprint": "sha256:cd"}]}
    one, two = finished(), finished("20270101-000000-b")
    assert "Side by side" in page([one, two], tmp_path / "r.html")
    assert "Side by side" not in page([one], tmp_path / "r.html")
    assert "Side by side" not in page([one, finished("20270101-000000-c", **other)], tmp_path / "r.html")


def test_a_report_says_how_to_get_the_same_numbers(finished: Callable[..., Path], tmp_path: Path) -> None:
    git = {"remote": "https://example.org/a b.git", "commit": "abc", "dirty": False}
    folder = finished(command=["vlmrecipes", "run", "my lines.toml"], environment={"python": "3", "git": git})
    text = page([folder], tmp_path / "r.html")
    for command in (
        "git clone &#39;https://example.org/a b.git&#39; . &amp;&amp; git checkout abc",
        "vlmrecipes snapshots verify lines@3",
        "vlmrecipes run &#39;my lines.toml&#39; --data train=lines@3",
        f"vlmrecipes runs verify {folder.name}",
    ):
        assert command in text, command


def test_whatever_the_data_holds_is_text(
    finished: Callable[..., Path], picture: tuple[str, bytes], tmp_path: Path
) -> None:
    texts = ("prediction", "prompt", "group", "split", "source")
    counts = {"tokens": 1, "truncated": True, "cer.numerator": 3, "cer.denominator": 4}
    row = dict.fromkeys(texts, EVIL) | counts | {"references": [EVIL + "x", EVIL], "images": [picture[0], EVIL]}
    table = [
        row | {"model": model, "id": EVIL + model, "metadata": json.dumps({EVIL: EVIL})} for model in ("base", "tuned")
    ]
    table[0]["prediction"] = EVIL + "yy"
    cell = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3, "spec": EVIL, "better": EVIL, "method": EVIL, "seed": EVIL}
    # A metric's name is a column of the predictions; all else is free.
    metrics = {
        model: {"cer": cell | {"by": {EVIL: {EVIL: {"value": 1, "n": 2}}}}, EVIL: cell} for model in ("base", "tuned")
    }
    part = dict.fromkeys(("role", "snapshot", "fingerprint", "license"), EVIL) | {
        "drops": {EVIL: 2},
        "splits": {EVIL: 3},
    }
    recipe = dict.fromkeys(("name", "version", "fingerprint", "source_sha256"), EVIL) | {
        "resolved": {EVIL: {EVIL: EVIL}}
    }
    model = {"id": EVIL, "revision": EVIL, "files": {EVIL: EVIL}, "lora_modules": [EVIL], "dtype": EVIL}
    machine = {
        "python": EVIL,
        "packages": {EVIL: EVIL},
        "variables": {EVIL: EVIL},
        "git": {"commit": EVIL, "remote": EVIL},
    }
    folder = finished(
        table=table,
        recipe=recipe,
        data=[part],
        metrics=metrics,
        model=model,
        environment=machine,
        generate={"tuned": {EVIL: EVIL}},
        plan={"fingerprint": EVIL},
        train={"resumed_from": [EVIL]},
        command=["vlmrecipes", EVIL],
    )
    failed = tmp_path / "failed"
    record.start(failed, run=EVIL, kind="train", recipe=recipe, environment=machine)
    record.finish(failed, "failed", EVIL)
    text = page(
        [folder, failed], tmp_path / "r.html", lambda _: {picture[0]: picture[1], EVIL: b"<svg onload=alert(1)>"}
    )
    elements = Page(text).elements
    assert not any(tag == "script" or any(name.startswith("on") for name in attrs) for tag, attrs in elements)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert text.count("&lt;script&gt;") > 40
    assert "{{ 7*7 }}" in text
    assert not {"\x00", "\u202e"} & set(text)


def test_a_run_that_failed_says_why(tmp_path: Path) -> None:
    record.start(tmp_path / "run", run="run", kind="train", recipe={}, environment={"python": "3"})
    assert "still going on" in page([tmp_path / "run"], tmp_path / "r.html")
    record.finish(tmp_path / "run", "failed", MemoryError("GPU is full"))
    text = page([tmp_path / "run"], tmp_path / "r.html")
    Page(text)
    assert "Why it failed" in text
    assert "MemoryError: GPU is full" in text
    assert "Nothing was scored" in text


def test_missing_and_damaged_predictions_are_told(finished: Callable[..., Path], tmp_path: Path) -> None:
    folder = finished()
    (folder / "predictions.parquet").write_bytes(b"PAR1")
    assert "predictions.parquet cannot be read." in page([folder], tmp_path / "r.html")
    (folder / "predictions.parquet").unlink()
    assert "predictions.parquet is missing." in page([folder], tmp_path / "r.html")


def test_a_report_stays_small(
    finished: Callable[..., Path], picture: tuple[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = finished()
    size = len(page([folder], tmp_path / "r.html", lambda _: dict([picture])))
    monkeypatch.setattr(report, "MOST_BYTES", size - 5000)
    text = page([folder], tmp_path / "r.html", lambda _: dict([picture]))
    assert len(text) < size - 5000
    monkeypatch.setattr(report, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match="give fewer"):
        page([folder], tmp_path / "small.html")
    assert not (tmp_path / "small.html").exists()


def test_no_run_and_no_record_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one run"):
        page([], tmp_path / "r.html")
    with pytest.raises(StoreError, match=r"record\.json"):
        page([tmp_path], tmp_path / "r.html")
