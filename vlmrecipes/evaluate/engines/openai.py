"""Any server that speaks OpenAI's chat completions: vLLM, SGLang, Ollama, `transformers serve`, a hosted one.

POST {base_url}/chat/completions as in OpenAI's API reference; images travel inside the request as data URLs (RFC 2397).
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vlmrecipes.errors import RunError
from vlmrecipes.evaluate.engines import Answered, Images, Prediction, failed
from vlmrecipes.masking import masked
from vlmrecipes.recipe import OpenAI

if TYPE_CHECKING:
    import httpx

    from vlmrecipes.data.sample import Sample

BUSY = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Answers that may be better the next time."""
REFUSED = frozenset({401, 403, 404, 405})
"""Answers that every row would get: a wrong key, address or model."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before trying again: doubled every time, a random half of it left out."""
MOST_BYTES = 16 * 2**20
"""Of an answer."""
MOST_TOKENS = 2**31 - 1
"""Of an answer; a server that tells more is wrong, and no file can keep the number."""
SHOWN = 300
"""Characters of a server's error that are passed on."""
KINDS = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}


class _AgainError(Exception):
    """A request that may succeed the next time: `after` so many seconds if the server says so, or never if it is `gone`."""

    def __init__(self, reason: str, after: float | None = None, *, gone: bool = False) -> None:
        super().__init__(reason)
        self.after = after
        self.gone = gone


class _RowError(Exception):
    """A request that this row will never get an answer to."""


@dataclass(slots=True)
class OpenAIEngine:
    """Asks a server, several rows at a time; a request that fails is tried again before its row counts as failed."""

    settings: OpenAI
    max_new_tokens: int
    _client: httpx.Client = field(init=False)
    _key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        import httpx

        self._key = os.environ.get(self.settings.key_env, "").strip()
        if not (self._key.isascii() and self._key.isprintable()):  # what refuses it as a header would print it
            raise RunError(f"${self.settings.key_env} holds characters that no key can have: set it again")
        self._client = httpx.Client(timeout=self.settings.timeout, limits=httpx.Limits(max_connections=None))

    def answers(self, samples: Sequence[Sample], images: Images) -> Iterator[list[Answered]]:
        """Yield predictions as they come; rows that share an image are asked one after the other. See `Engine`."""
        waiting: dict[Future[Prediction], int] = {}
        with ThreadPoolExecutor(max_workers=self.settings.concurrency) as pool:
            try:
                for place in sorted(range(len(samples)), key=lambda place: (samples[place].images, place)):
                    if len(waiting) >= 2 * self.settings.concurrency:
                        yield _done(waiting)
                    waiting[pool.submit(self._answer, samples[place], _read(images, samples[place]))] = place
                while waiting:
                    yield _done(waiting)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def about(self) -> dict[str, Any]:
        """Return engine, address and how requests are made; see `Engine`. The key is nowhere in it."""
        return {"engine": "openai", **self.settings.model_dump(), "max_new_tokens": self.max_new_tokens}

    def _answer(self, sample: Sample, images: list[bytes] | Exception) -> Prediction:
        """Ask until there is an answer. Raises RunError where no row will get one."""
        if isinstance(images, Exception):
            return failed(sample, images)
        body = self._body(sample, images)
        for attempt in range(self.settings.retries + 1):
            try:
                return _prediction(sample, self._post(body))
            except _RowError as error:
                return failed(sample, str(error))
            except _AgainError as error:
                if attempt == self.settings.retries:
                    if error.gone:
                        raise RunError(f"no server answers at {self.settings.base_url} any more: {error}") from None
                    return failed(sample, str(error))
                time.sleep(_pause(attempt, error.after))
        raise AssertionError

    def _body(self, sample: Sample, images: Sequence[bytes]) -> bytes:
        return json.dumps(
            {
                "model": self.settings.model,
                "messages": messages(sample.messages, images),
                "max_tokens": self.max_new_tokens,
                "temperature": 0,
                "stream": False,
            }
        ).encode()

    def _post(self, body: bytes) -> Any:
        """Return the JSON of an answer. Raises _AgainError, _RowError, or RunError for a server that is not there."""
        import httpx

        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        url = f"{self.settings.base_url.rstrip('/')}/chat/completions"
        try:
            with self._client.stream("POST", url, content=body, headers=headers) as response:
                data = self._read(response)
        except httpx.TimeoutException:
            raise _AgainError(f"no answer within {self.settings.timeout:g} s") from None
        except httpx.RequestError as error:
            gone = isinstance(error, httpx.ConnectError)
            raise _AgainError(f"{type(error).__name__}: {error}", gone=gone) from None
        return _judged(response.status_code, response.headers, masked(data, self._key), self.settings)

    def _read(self, response: httpx.Response) -> bytes:
        """Return the body. A server that drips is given no more time than one that hangs."""
        began, data = time.monotonic(), bytearray()
        for piece in response.iter_bytes():
            data += piece
            if len(data) > MOST_BYTES:
                raise _RowError(f"the server's answer is larger than {MOST_BYTES} bytes")
            if time.monotonic() - began > self.settings.timeout:
                raise _AgainError(f"no whole answer within {self.settings.timeout:g} s")
        return bytes(data)


def reachable(settings: OpenAI) -> str:
    """Return why no server can be asked at `base_url`, or nothing."""
    import httpx

    try:
        httpx.get(f"{settings.base_url.rstrip('/')}/models", timeout=settings.timeout)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return f"no server answers at {settings.base_url}: {error}"
    return ""


def messages(turns: Sequence[Mapping[str, Any]], images: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return chat turns as the API wants them, `images` put in as data URLs in order."""
    left = iter(images)
    return [
        {"role": turn["role"], "content": [_part(part, left) for part in turn["content"]]}
        if turn["role"] == "user"
        else {"role": turn["role"], "content": "".join(part.get("text", "") for part in turn["content"])}
        for turn in turns
    ]


def _part(part: Mapping[str, Any], images: Iterator[bytes]) -> dict[str, Any]:
    if part["type"] != "image":
        return dict(part)
    data = next(images)
    kind = next((kind for start, kind in KINDS.items() if data.startswith(start)), "png")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"},
    }


def _done(waiting: dict[Future[Prediction], int]) -> list[Answered]:
    """Take the requests that have ended out of `waiting`; waits for one."""
    ended, _ = wait(waiting, return_when=FIRST_COMPLETED)
    return [(waiting.pop(one), one.result()) for one in ended]


def _read(images: Images, sample: Sample) -> list[bytes] | Exception:
    try:
        return images.read(sample.images)
    except Exception as error:  # noqa: BLE001 - a store may fail in any way, and the other rows must be answered
        return error


def _pause(attempt: int, after: float | None) -> float:
    longest: float = min(LONGEST_WAIT, FIRST_WAIT * 2**attempt)
    drawn = longest * (0.5 + random.random() / 2)  # noqa: S311 - so that clients do not come back all at once
    return min(LONGEST_WAIT, max(after or 0.0, drawn))


def _judged(status: int, headers: Mapping[str, str], data: bytes, settings: OpenAI) -> Any:
    """Return the JSON of a good answer; else raise what is to be done."""
    told = data[: 4 * SHOWN].decode("utf-8", "replace")[:SHOWN].replace("\n", " ")
    reason = f"HTTP {status}: {told}"
    if status in REFUSED:
        key = f"${settings.key_env} is {'set' if os.environ.get(settings.key_env) else 'not set'}"
        raise RunError(f"{settings.base_url} refuses model {settings.model!r}: {reason} ({key})")
    if status in BUSY:
        raise _AgainError(reason, _seconds(headers.get("retry-after", "")))
    if status != 200:  # noqa: PLR2004 - OK
        raise _RowError(reason)
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise _AgainError(f"not JSON: {told}") from None


def _seconds(text: str) -> float | None:
    """Return a Retry-After in seconds (RFC 9110, 10.2.3); dates are not read."""
    return float(text) if text.isascii() and text.isdigit() else None


def _prediction(sample: Sample, answer: Any) -> Prediction:
    """Return what the first choice says. Raises _AgainError for an answer without one."""
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
        tokens = (answer.get("usage") or {}).get("completion_tokens") or 0
    except (LookupError, TypeError, AttributeError):
        raise _AgainError(f"no choices in the answer: {json.dumps(answer)[:SHOWN]}") from None
    if not isinstance(text, str) or not isinstance(tokens, int):
        raise _AgainError(f"no text in the answer: {json.dumps(answer)[:SHOWN]}")
    tokens = min(max(tokens, 0), MOST_TOKENS)
    return Prediction(id=sample.id, text=text, tokens=tokens, truncated=choice.get("finish_reason") == "length")
