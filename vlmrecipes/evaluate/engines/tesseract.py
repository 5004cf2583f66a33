"""Tesseract: plain OCR, the baseline that a tuned model has to beat. It sees pictures only; prompts are ignored."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import InputError, MissingExtraError
from vlmrecipes.evaluate.engines import Answered, Images, Prediction, failed
from vlmrecipes.fingerprint import file_sha256
from vlmrecipes.recipe import Tesseract

if TYPE_CHECKING:
    from vlmrecipes.data.sample import Sample

COMMAND = "tesseract"
SECONDS = 120
"""For one picture."""


@dataclass(slots=True)
class TesseractEngine:
    """Runs a process for every picture, several at a time."""

    settings: Tesseract
    version: str = field(init=False)

    def __post_init__(self) -> None:
        self.version = version()

    def answers(self, samples: Sequence[Sample], images: Images) -> Iterator[list[Answered]]:
        """Yield what stands in the pictures of each sample, one text after the other. See `Engine`."""
        with ThreadPoolExecutor(max_workers=self.settings.processes or os.cpu_count()) as pool:
            work = {pool.submit(self._answer, sample, images): place for place, sample in enumerate(samples)}
            for one in as_completed(work):
                yield [(work[one], one.result())]

    def about(self) -> dict[str, Any]:
        """Return engine, version and settings; see `Engine`."""
        return {"engine": "tesseract", "version": self.version, "prompts": "ignored", **self.settings.model_dump()}

    def _answer(self, sample: Sample, images: Images) -> Prediction:
        if not sample.images:
            return failed(sample, "no picture: Tesseract answers no questions")
        try:
            texts = [self._read(data) for data in images.read(sample.images)]
        except Exception as error:  # noqa: BLE001 - stores and pictures fail in any way; the others must be answered
            return failed(sample, error)
        return Prediction(id=sample.id, text="\n".join(texts), tokens=0, truncated=False)

    def _read(self, data: bytes) -> str:
        """Return the text in an encoded picture. Raises RuntimeError with what Tesseract says of it."""
        options = ("-l", self.settings.language, "--psm", str(self.settings.psm))
        done = subprocess.run(  # noqa: S603 - the user's own program, no shell
            [_path(), "stdin", "stdout", *options],
            input=data,
            capture_output=True,
            timeout=SECONDS,
            check=False,
            env=os.environ | {"OMP_THREAD_LIMIT": "1"},  # one thread each: processes use the cores better
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}")
        return done.stdout.decode("utf-8", "replace").strip()


def version() -> str:
    """Return Tesseract's version. Raises MissingExtraError when it is not installed."""
    said = _said("--version")
    found = re.search(r"tesseract v?(\S+)", said)
    return found[1] if found else "unknown"


def language_files(language: str) -> dict[str, str]:
    """Return the SHA-256 of the data of each language of `eng+deu` by file name.

    Raises InputError for a language that is not installed, MissingExtraError when Tesseract is not.
    """
    said = _said("--list-langs")
    folder = re.search(r'"(.+)"', said)
    there = said.splitlines()[1:]
    if missing := [one for one in language.split("+") if one not in there]:
        ways = f"installed are {', '.join(there) or 'none'}; apt-get install tesseract-ocr-{missing[0]}"
        raise InputError.one(f"no language data {', '.join(missing)}: {ways}", key="eval.tesseract.language")
    files = [Path(folder[1] if folder else "") / f"{one}.traineddata" for one in language.split("+")]
    return {file.name: file_sha256(file) for file in files if file.is_file()}


def _said(option: str) -> str:
    done = subprocess.run([_path(), option], capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    return done.stdout or done.stderr


def _path() -> str:
    path = shutil.which(COMMAND)
    if path is None:
        raise MissingExtraError(
            "tesseract is needed to read with the engine `tesseract`: apt-get install tesseract-ocr"
        )
    return path
