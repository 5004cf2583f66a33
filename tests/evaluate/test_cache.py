from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tiny import MemoryReader, lines, model, png, processor, user
from watched import Watched

from vlmrecipes.evaluate import cache as caches
from vlmrecipes.evaluate.cache import Cache, answerer, question
from vlmrecipes.evaluate.engines import Prediction
from vlmrecipes.evaluate.engines.hf import HfEngine
from vlmrecipes.evaluate.generate import generate
from vlmrecipes.models.catalog import ModelRef
from vlmrecipes.records import predictions, record

if TYPE_CHECKING:
    from scored import Scored

pytestmark = pytest.mark.filterwarnings("ignore:.*is not writable.*:UserWarning")
LONGEST = 6


def said(path: Path, given: list[Any], reader: MemoryReader, *, longest: int = LONGEST, probe: bool = False) -> Any:
    engine = Watched(HfEngine(model(), processor(), longest))
    return generate(engine, given, reader, cache=Cache(path, longest), probe=probe), engine.asked


def test_what_was_answered_is_not_asked_again_but_by_probes(tmp_path: Path) -> None:
    reader, path = MemoryReader(), tmp_path / "answers" / "one.jsonl"
    given = lines(reader, 4)
    first, asked = said(path, given[:3], reader)
    assert (first.stats["cached"], len(asked)) == (0, 3)
    second, asked = said(path, given, reader)
    assert (second.stats["cached"], asked) == (3, [given[3].id])
    assert second.predictions[:3] == first.predictions
    probed, asked = said(path, given, reader, probe=True)
    assert probed.stats["cached"] == 4
    assert len(asked) == 4 + 4, "each row alone, and without its picture"
    assert probed.stats["probes"]["batch_vs_single"] == {"rows": 4, "equal": 4}


def test_the_question_is_messages_and_images_and_nothing_else() -> None:
    reader = MemoryReader()
    one, other = lines(reader, 2)
    assert question(one) != question(other)
    assert question(replace(one, id="f" * 32, references=("x",), split="eval", group="z")) == question(one)
    assert question(replace(one, images=other.images)) != question(one)
    assert question(replace(one, images=(*one.images, *one.images))) != question(one)
    assert question(replace(one, messages=(user("Read it."),))) != question(one)


def test_a_changed_picture_is_asked_again(tmp_path: Path) -> None:
    reader, path = MemoryReader(), tmp_path / "one.jsonl"
    (one,) = lines(reader, 1)
    said(path, [one], reader)
    _, asked = said(path, [replace(one, images=(reader.add(png(41, 33, 7)),))], reader)
    assert asked == [one.id]


def test_an_answer_holds_under_every_limit_that_it_fits(tmp_path: Path) -> None:
    (one,) = lines(MemoryReader(), 1)

    def known(tokens: int, longest: int, path: Path, *, truncated: bool) -> bool:
        path.unlink(missing_ok=True)
        Cache(path, 99).add([(one, Prediction(id=one.id, text="x", tokens=tokens, truncated=truncated))])
        return bool(Cache(path, longest).known([one]))

    path = tmp_path / "one.jsonl"
    assert [known(5, longest, path, truncated=False) for longest in (4, 5, 6)] == [False, True, True]
    assert [known(5, longest, path, truncated=True) for longest in (4, 5, 6)] == [False, True, False]


def test_failed_rows_are_not_kept_and_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "one.jsonl"
    one, other = lines(MemoryReader(), 2)
    cache = Cache(path, LONGEST)
    cache.add([(one, Prediction(id=one.id, text=None, tokens=0, truncated=False, error="broken"))])
    assert not path.exists()
    path.write_text('{"question": "ab')
    cache.add([(other, Prediction(id=other.id, text="ü\ud800\n", tokens=2, truncated=False))])
    assert cache.known([one, other]) == {1: Prediction(id=other.id, text="ü\ud800\n", tokens=2, truncated=False)}


def test_whatever_decides_an_answer_names_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = ModelRef("m", str(tmp_path), "", {"model.safetensors": "ab"})
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"one")
    settings = {"load_in": "full"}
    names = [answerer(ref, None, settings), answerer(ref, adapter, settings), answerer(ref, None, {"load_in": "4bit"})]
    names.append(answerer(replace(ref, files={"model.safetensors": "cd"}), None, settings))
    (adapter / "adapter_model.safetensors").write_bytes(b"two")
    names.append(answerer(ref, adapter, settings))
    names += [answerer(replace(ref, files={}, revision=commit), None, settings) for commit in ("aa", "bb")]
    monkeypatch.setattr(caches, "_packages", lambda: {"torch": "0"})
    names.append(answerer(ref, None, settings))
    monkeypatch.setattr(caches, "_code", lambda: {"models/chat.py": "0"})
    names.append(answerer(ref, None, settings))
    assert len(set(names)) == len(names)
    assert all(len(name) == 64 for name in names)


def test_a_model_that_nobody_can_identify_has_no_file() -> None:
    assert answerer(ModelRef("served", "http://localhost:8000/v1", "", {}), None, {}) == ""


def test_a_second_run_takes_what_still_holds_from_the_first(scored_store: Scored) -> None:
    whole, cut = (record.read(scored_store.folder(run)) for run in (scored_store.whole, scored_store.cut))
    rows = predictions.read(scored_store.folder() / predictions.NAME).to_pylist()
    assert whole["generate"]["tuned"]["cached"] == 0
    assert cut["generate"]["tuned"]["cached"] == sum(row["tokens"] <= 5 and not row["truncated"] for row in rows)
    (file,) = (Path(scored_store.store) / "answers").iterdir()
    assert len(file.read_text().splitlines()) == 2 * len(rows) - cut["generate"]["tuned"]["cached"]
