from __future__ import annotations

import io
import shutil

import pytest
from PIL import Image, ImageDraw, ImageFont
from tiny import MemoryReader, sample, user

from vlmrecipes.errors import InputError, MissingExtraError
from vlmrecipes.evaluate.engines.tesseract import TesseractEngine, language_files
from vlmrecipes.evaluate.generate import generate
from vlmrecipes.recipe import Tesseract

installed = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


def line(text: str) -> bytes:
    image = Image.new("RGB", (420, 60), "white")
    ImageDraw.Draw(image).text((10, 8), text, fill="black", font=ImageFont.load_default(32))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@installed
def test_reads_lines_ignores_prompts_and_counts_failures() -> None:
    reader = MemoryReader()
    said = ["TOTAL 12.50", "Thank you"]
    given = [sample(n, [user("What?")], text, [reader.add(line(text))]) for n, text in enumerate(said)]
    given += [sample(8, [user("Two?", 0)], "2", []), sample(9, [user("What?")], "x", [reader.add(b"no picture")])]
    found = generate(TesseractEngine(Tesseract(processes=2)), given, reader)
    assert [one.text for one in found.predictions] == [*said, None, None]
    assert "answers no questions" in found.predictions[2].error
    assert found.predictions[3].error
    assert found.stats["failed"] == 2
    assert (found.stats["engine"], found.stats["prompts"]) == ("tesseract", "ignored")
    assert found.stats["probes"]["batch_vs_single"] == {"rows": 2, "equal": 2}
    blank = [one["text"] for one in found.stats["probes"]["blank"]["predictions"]]
    assert len(blank) == 2
    assert not set(blank) & set(said), "nothing of the text is left on a white picture"


@installed
def test_a_language_that_is_not_there_is_told() -> None:
    assert len(language_files("eng")["eng.traineddata"]) == 64
    with pytest.raises(InputError, match="no language data xxx"):
        language_files("eng+xxx")


def test_without_tesseract_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match="apt-get install tesseract-ocr"):
        TesseractEngine(Tesseract())
