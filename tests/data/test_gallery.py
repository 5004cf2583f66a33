"""The page about a snapshot."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from curated import declared, ingested, project
from hypothesis import given
from hypothesis import strategies as st

from vlmrecipes.data import gallery
from vlmrecipes.data.gallery import write_page
from vlmrecipes.data.snapshot import open_snapshot
from vlmrecipes.errors import InputError
from vlmrecipes.page.charts import histogram

NASTY = "<script>alert(1)</script><img src=http://evil.example/x onerror=alert(1)>\u202e"


class Tags(HTMLParser):
    """What a browser sees of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path, rows: list[dict[str, Any]]) -> str:
    ingested(declared(folder / "a", rows, "max_dropped = 0.9"), folder / "store")
    result = write_page(open_snapshot(str(folder / "store"), "pages"), folder / "page.html")
    assert result["bytes"] == (folder / "page.html").stat().st_size < 5_000_000
    return (folder / "page.html").read_text("utf-8")


def test_the_page_shows_samples_with_pictures_and_what_was_left_out(tmp_path: Path) -> None:
    rows = [*project(tmp_path / "a", 10), {"image": "gone.png", "q": "Read.", "text": "x"}]
    seen = Tags(page_of(tmp_path, rows))
    pictures = [tag for tag, given in seen.tags if tag in {"img", "use"}]
    assert len(pictures) == 20
    for text in (
        "pages@1",
        "20",
        "gone.png: No such file or directory",
        "missing image",
        "Read.",
        "pages 3",
        "CC0-1.0",
    ):
        assert text in seen.text
    assert [given["id"] for tag, given in seen.tags if tag == "h3"][:3] == ["statistics", "answers", "left-out"]
    assert sum(tag == "rect" for tag, _ in seen.tags) > 10


def test_the_page_needs_nothing_else_and_obeys_nobody(tmp_path: Path) -> None:
    rows = project(tmp_path / "a", 3)
    rows[0] |= {"q": NASTY, "text": NASTY}
    page = page_of(tmp_path, [*rows, {"image": f"{NASTY}.png", "q": "Read.", "text": "x"}])
    seen = Tags(page)
    assert not {tag for tag, _ in seen.tags} & {"script", "iframe", "link", "object", "base", "form"}
    links = [value or "" for _, given in seen.tags for key, value in given.items() if key in {"src", "href"}]
    assert all(link.startswith(("#", "data:image/")) for link in links)
    assert not [key for _, given in seen.tags for key in given if key.startswith("on") or key == "style"]
    assert "\u202e" not in page
    assert "default-src 'none'" in page
    assert NASTY.removesuffix("\u202e") in seen.text


def test_duplicates_stand_beside_what_was_kept(tmp_path: Path) -> None:
    page_of(tmp_path, project(tmp_path / "a", 3))
    snapshot = open_snapshot(str(tmp_path / "store"), "pages")
    samples = snapshot.samples()
    drop = {"source": "s", "key": "rows:9", "reason": "duplicate", "message": "as another", "distance": 3}
    drop |= {"images": [samples[0].images[0]], "twin": samples[1].id}
    found = gallery._doubles(snapshot, [drop], 5)  # noqa: SLF001 - what it is made of
    assert [(each.images, each.twin, each.distance) for each in found] == [(samples[0].images, samples[1].images, "3")]


def test_a_large_set_gives_a_page_under_five_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = len(page_of(tmp_path, project(tmp_path / "a", 12)))
    monkeypatch.setattr(gallery, "MOST_BYTES", full - 2000)
    result = write_page(open_snapshot(str(tmp_path / "store"), "pages"), tmp_path / "small.html")
    assert result["bytes"] < full - 2000


def test_a_page_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    page_of(tmp_path, project(tmp_path / "a", 1))
    with pytest.raises(InputError, match="cannot be written"):
        write_page(open_snapshot(str(tmp_path / "store"), "pages"), tmp_path / "no" / "page.html")


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=24).filter(any), st.integers(-100, 100), st.integers(1, 9))
def test_bars_stay_inside_the_chart(counts: list[int], low: int, step: int) -> None:
    found = histogram([low + step * at for at in range(len(counts) + 1)], counts)
    assert len(found.bars) == sum(map(bool, counts))
    assert all(bar.x >= 0 and bar.x + bar.width <= found.width for bar in found.bars)
    assert all(0 <= bar.y <= found.floor and abs(bar.y + bar.height - found.floor) < 0.2 for bar in found.bars)
    assert all(re.fullmatch(r"\S+ to \S+: [\d,]+", bar.label) for bar in found.bars)
    json.dumps([tick.at for tick in found.ticks])


@pytest.mark.parametrize(
    ("value", "shown"), [(0.00123, "0.00123"), (1.5, "1.5"), (1000.0, "1,000"), (1234567, "1,234,567")]
)
def test_numbers_are_shown_as_people_write_them(value: float, shown: str) -> None:
    assert gallery._value(value) == shown  # noqa: SLF001 - what it is made of


def test_a_folder_is_no_page_and_nothing_is_left_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingested(declared(tmp_path / "a", project(tmp_path / "a", 2)), tmp_path / "store")
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    for target in (Path(), Path("/"), tmp_path / "in"):
        with pytest.raises(InputError, match="is a folder; name a file"):
            write_page(open_snapshot(str(tmp_path / "store"), "pages"), target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "in", "store"]
