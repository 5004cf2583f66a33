from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from server import MODEL, Server, serving
from tiny import MemoryReader, lines, png, processor, sample, user

from vlmrecipes.errors import RunError
from vlmrecipes.evaluate.engines import openai
from vlmrecipes.evaluate.engines.external import problems
from vlmrecipes.evaluate.engines.hf import HfEngine
from vlmrecipes.evaluate.generate import generate
from vlmrecipes.models.catalog import resolve
from vlmrecipes.models.load import load_model
from vlmrecipes.recipe import Eval, OpenAI

pytestmark = pytest.mark.filterwarnings("ignore:.*is not writable.*:UserWarning")
LONGEST = 8


@pytest.fixture(scope="module")
def network() -> Any:
    return load_model(resolve("builtin:reader"))


@pytest.fixture
def server(network: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(openai, "FIRST_WAIT", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving(Server(network, processor())) as one:
        yield one


def settings(server: Server, **more: Any) -> OpenAI:
    return OpenAI(**{"base_url": server.url, "model": MODEL, "concurrency": 3, "retries": 2} | more)


def answers(server: Server, given: list[Any], reader: MemoryReader, *, probe: bool = False, **more: Any) -> Any:
    engine = openai.OpenAIEngine(settings(server, **more), LONGEST)
    return generate(engine, given, reader, probe=probe)


def test_a_server_answers_as_the_same_model_in_process(server: Server, network: Any) -> None:
    reader = MemoryReader()
    two = sample(90, [user("Compare.", 2)], "x", [reader.add(png(50, 32, 101)), reader.add(png(70, 40, 102))])
    given = [*lines(reader, 4), two, sample(91, [user("Two and two?", 0)], "4", [])]
    served = answers(server, given, reader, probe=True)
    here = generate(HfEngine(network, processor(), LONGEST), given, reader)
    assert [one.text for one in served.predictions] == [one.text for one in here.predictions]
    assert [one.truncated for one in served.predictions] == [one.truncated for one in here.predictions]
    assert served.stats["probes"]["batch_vs_single"] == {"rows": 6, "equal": 6}
    assert served.stats["probes"]["blank"]["predictions"] == here.stats["probes"]["blank"]["predictions"]
    assert 1 < server.most_at_once <= 3


@pytest.mark.parametrize("fault", [429, 500, 503, "garbage", "empty", "hang", "drop", "zip", "later"])
def test_what_goes_wrong_once_is_tried_again(server: Server, fault: Any) -> None:
    reader = MemoryReader()
    server.faults = [fault, fault]
    found = answers(server, lines(reader, 2), reader, **({"timeout": 1.0} if fault == "hang" else {}))
    assert [one.text is None for one in found.predictions] == [False, False]
    assert len(server.asked) == 4


def test_what_stays_wrong_fails_its_row_alone(server: Server) -> None:
    reader = MemoryReader()
    server.faults = [500, "garbage", "empty"]
    found = answers(server, lines(reader, 2), reader, concurrency=1)
    assert found.predictions[0].text is None or found.predictions[1].text is None
    assert found.stats["failed"] == 1
    assert "no choices" in "".join(one.error for one in found.predictions)


def test_a_request_that_the_server_refuses_is_not_repeated(server: Server) -> None:
    reader = MemoryReader()
    server.faults = [400]
    found = answers(server, lines(reader, 2), reader, concurrency=1)
    assert found.stats["failed"] == 1
    assert len(server.asked) == 2


def test_a_wrong_key_or_model_ends_it_and_the_key_is_told_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = MemoryReader()
    server.key = "sk-right"
    monkeypatch.setenv("MY_KEY", "sk-wrong")
    with pytest.raises(RunError, match=r"401.*\$MY_KEY is set") as caught:
        answers(server, lines(reader, 2), reader, key_env="MY_KEY")
    assert "sk-wrong" not in str(caught.value)
    monkeypatch.setenv("MY_KEY", "sk-right")
    found = answers(server, lines(reader, 2), reader, key_env="MY_KEY")
    assert found.stats["failed"] == 0
    assert "sk-right" not in json.dumps(found.stats)
    with pytest.raises(RunError, match="refuses model 'other'"):
        answers(server, lines(reader, 2), reader, key_env="MY_KEY", model="other")


def test_what_a_server_echoes_is_kept_without_the_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key-of-no-known-shape/+")
    server.key, server.faults, reader = "a-key-of-no-known-shape/+", ["echo", "odd"], MemoryReader()
    found = {one.text: one for one in answers(server, lines(reader, 3), reader, concurrency=1).predictions}
    assert found[None].error.endswith("Bearer ***?")
    assert found["*** half \ufffd"].tokens == openai.MOST_TOKENS


def test_a_key_that_stands_in_for_none_hides_no_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "i")
    reader = MemoryReader()
    found = answers(server, lines(reader, 2), reader).predictions
    assert not [one for one in found if one.text is None or "***" in one.text]


def test_a_key_that_cannot_be_sent_is_refused_without_telling_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("half-a-key\nother-half", "schl\u00fcssel"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(RunError, match=r"^\$OPENAI_API_KEY holds characters that no key can have: set it again$"):
            openai.OpenAIEngine(settings(server), LONGEST)
    server.key, reader = "a-key-with-its-newline", MemoryReader()
    monkeypatch.setenv("OPENAI_API_KEY", f"{server.key}\n")
    assert answers(server, lines(reader, 1), reader).predictions[0].text is not None


def test_a_server_that_is_gone_ends_it(server: Server) -> None:
    reader, gone = MemoryReader(), "http://127.0.0.1:9/v1"
    with pytest.raises(RunError, match="no server answers"):
        answers(server, lines(reader, 2), reader, base_url=gone)
    asked = Eval(metrics=("cer",), engine="openai", openai=OpenAI(base_url=gone, model=MODEL))
    assert [key for key, _ in problems(asked)] == ["eval.openai.base_url"]
    bare = Eval(metrics=("cer",), engine="openai")
    assert [key for key, _ in problems(bare)] == ["eval.openai.model", "eval.openai.base_url"]


def test_no_row_answered_is_a_failed_run(server: Server) -> None:
    reader = MemoryReader()
    server.faults = [400, 400]
    with pytest.raises(RunError, match="none of 2 rows could be answered; the first: HTTP 400"):
        answers(server, lines(reader, 2), reader)


def test_addresses_with_secrets_are_refused() -> None:
    with pytest.raises(ValueError, match="key_env"):
        OpenAI(base_url="http://me:secret@host/v1")
    with pytest.raises(ValueError, match="must be an address"):
        OpenAI(base_url="localhost:8000")


def test_messages_keep_order_and_bytes() -> None:
    data = png(4, 4)
    (turn,) = openai.messages([user("Read.", 1)], [data])
    assert [part["type"] for part in turn["content"]] == ["image_url", "text"]
    assert turn["content"][0]["image_url"]["url"].startswith("data:image/png;base64,")
