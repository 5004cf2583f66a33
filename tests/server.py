"""A small HTTP server that speaks OpenAI's chat completions and answers with a model of transformers.

Requests are parsed, images decoded from their data URLs, and the model generates: nothing is made up. `faults` holds
what goes wrong first: HTTP statuses, `garbage`, `empty`, `hang`, `drop`, `zip` (a body that is not the gzip it is said to
be), `later` (a Retry-After that is no number), `echo` (the key in an error) and `odd` (an answer that holds half a character,
the key as JSON may write it, and a number of tokens that nothing can hold).
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch
from PIL import Image

MODEL = "reader"
ODD: dict[str, tuple[int, bytes, dict[str, str]]] = {
    "garbage": (200, b"<html>gateway</html>", {}),
    "empty": (200, b'{"choices": []}', {}),
    "zip": (200, b"no gzip", {"Content-Encoding": "gzip"}),
    "later": (503, b"busy", {"Retry-After": "\xb2"}),
}


@dataclass
class Server:
    """A model behind an address; counts what it is asked."""

    network: Any
    processor: Any
    key: str = ""
    faults: list[Any] = field(default_factory=list)
    """What goes wrong, in order, before requests are answered."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    most_at_once: int = 0
    url: str = ""
    now: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    busy: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def counted(self) -> Iterator[None]:
        with self.lock:
            self.now += 1
            self.most_at_once = max(self.most_at_once, self.now)
        yield
        with self.lock:
            self.now -= 1

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        turns, images = [], []
        for turn in request["messages"]:
            content = (
                [{"type": "text", "text": turn["content"]}] if isinstance(turn["content"], str) else turn["content"]
            )
            images += [_image(part) for part in content if part["type"] == "image_url"]
            parts = [{"type": "image"} if part["type"] == "image_url" else part for part in content]
            turns.append({"role": turn["role"], "content": parts})
        text = self.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = self.processor(text=[text], images=[images] if images else None, return_tensors="pt")
        with self.busy, torch.inference_mode():
            output = self.network.generate(**inputs, max_new_tokens=request["max_tokens"], do_sample=False)
        ids = output[0, inputs["input_ids"].shape[1] :].tolist()
        ended = self.processor.tokenizer.eos_token_id in ids
        said = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        choice = {"message": {"role": "assistant", "content": said}, "finish_reason": "stop" if ended else "length"}
        return {"choices": [choice], "usage": {"completion_tokens": len(ids)}}


def odd(key: str) -> bytes:
    """Return an answer that no file could keep as it is."""
    told = json.dumps(f"{key} half \ud83d").replace("-", "\\u002D")
    return (
        f'{{"choices": [{{"message": {{"content": {told}}}}}], "usage": {{"completion_tokens": 1{"0" * 30}}}}}'.encode()
    )


def _image(part: dict[str, Any]) -> Image.Image:
    head, _, data = part["image_url"]["url"].partition(",")
    assert head.startswith("data:image/")
    assert head.endswith(";base64")
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@contextmanager
def serving(server: Server) -> Iterator[Server]:  # noqa: C901 - a branch for every fault
    """Let `server` listen on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, json.dumps({"object": "list", "data": [{"id": MODEL}]}).encode())

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with server.lock:
                server.asked.append(request)
                fault = server.faults.pop(0) if server.faults else None
            if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                self.reply(401, b'{"error": {"message": "wrong key"}}')
            elif request["model"] != MODEL:
                self.reply(404, b'{"error": {"message": "no such model"}}')
            elif isinstance(fault, int):
                self.reply(fault, b'{"error": {"message": "not now"}}', {"Retry-After": "0"} if fault == 429 else {})
            elif fault in ODD:
                self.reply(*ODD[fault])
            elif fault == "drop":
                self.connection.close()
            elif fault == "echo":
                self.reply(400, f"what is {'.' * 180}{self.headers.get('Authorization')}?".encode())
            elif fault == "odd":
                self.reply(200, odd(server.key))
            else:
                if fault == "hang":
                    time.sleep(1.5)
                with server.counted():  # ended before the client knows, who then asks again
                    answer = server.answer(request)
                self.reply(200, json.dumps(answer).encode())

        def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            try:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:
                return  # the client has given up

        def log_message(self, *_: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{listening.server_port}/v1"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()
