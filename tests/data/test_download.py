"""Images by URL, from real servers on this machine."""

from __future__ import annotations

import json
import pickle
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from reading import good, rows

from vlmrecipes.data import download
from vlmrecipes.data.download import Remote, is_public
from vlmrecipes.data.images import ImageError, image_bytes
from vlmrecipes.ingestion import ingest

HERE = ("127.0.0.1",)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        name = self.path.partition("?")[0].strip("/").replace("-", "_").replace(".", "_").partition("/")[0]
        try:
            getattr(self, f"on_{name}", self.on_missing)()
        except (BrokenPipeError, ConnectionResetError):
            self.server.cut.set()

    def answer(self, status: int = 200, body: bytes = b"picture", **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def on_missing(self) -> None:
        self.answer(404)

    def on_a_png(self) -> None:
        self.answer(body=self.server.body)

    def on_flaky(self) -> None:
        self.answer(503 if len(self.server.asked) < 3 else 200)

    def on_down(self) -> None:
        self.answer(500)

    def on_short(self) -> None:
        self.answer(body=b"pic", Content_Length="7" if len(self.server.asked) < 2 else "3")
        self.close_connection = True

    def on_hop(self) -> None:
        self.answer(302, Location="/a.png")

    def on_loop(self) -> None:
        self.answer(301, Location="/loop")

    def on_to(self) -> None:
        self.answer(302, Location=self.path.partition("?")[2])

    def on_zipped(self) -> None:
        self.answer(Content_Encoding="gzip")

    def on_long(self) -> None:
        self.answer(Content_Length=str(1 << 40))

    def on_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(1 << 16))

    def on_slow(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.cut.wait(0.05):
            self.wfile.write(b".")

    def on_slow_head(self) -> None:
        while not self.server.cut.wait(0.05):
            self.wfile.write(b"H")

    def on_wait(self) -> None:
        self.server.most += 1
        while self.server.most < 3 and not self.server.cut.wait(0.01):
            pass
        self.answer()

    def on_silent(self) -> None:
        self.server.cut.wait(5)

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.cut = threading.Event()
        self.body = b"picture"
        self.most = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.server_port}/{path}"

    def handle_error(self, *_: Any) -> None:
        self.cut.set()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.cut.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VLMRECIPES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    return tmp_path / "cache"


def refused(url: str, allow_hosts: tuple[str, ...] = HERE) -> tuple[str, str]:
    with pytest.raises(ImageError) as caught:
        Remote(url, allow_hosts).render()
    return caught.value.reason, caught.value.message


def names(monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[str]]) -> Counter[str]:
    """Let the resolver answer for names that do not exist, each look-up with the next address; count the look-ups."""
    real, counted = socket.getaddrinfo, Counter[str]()

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        counted[name] += 1
        address = answers[name][min(counted[name], len(answers[name])) - 1] if name in answers else host
        return real(address, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return counted


def test_an_image_is_fetched_once_and_kept_by_its_content(server: Server, cache: Path) -> None:
    remote = Remote(server.url("a.png"), HERE)
    assert [remote.render(), pickle.loads(pickle.dumps(remote)).render()] == [b"picture"] * 2
    server.body = b"another"
    assert remote.render() == b"picture"
    assert len(server.asked) == 1
    [content] = (cache / "content").iterdir()
    content.write_bytes(b"damaged")
    assert remote.render() == b"another"
    assert not [path for path in cache.rglob("*") if path.name.startswith("tmp")]


def test_it_works_where_an_event_loop_already_runs(server: Server) -> None:
    import asyncio

    async def notebook() -> bytes:
        return Remote(server.url("a.png"), HERE).render()

    assert asyncio.run(notebook()) == b"picture"


def test_the_server_sees_a_plain_honest_request(server: Server) -> None:
    Remote(server.url("a.png?x=1"), HERE).render()
    [(path, headers)] = server.asked
    assert (path, headers["Host"]) == ("/a.png?x=1", f"127.0.0.1:{server.server_port}")
    assert headers["User-Agent"].startswith("vlmrecipes/")
    assert headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"])
def test_addresses_of_this_machine_are_refused_however_they_are_written(server: Server, host: str) -> None:
    reason, message = refused(server.url("a.png", host), ())
    assert reason == "refused_address"
    assert "allow_hosts" in message
    assert not server.asked


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fe80::1%1",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "2002:a00:1::1",
        "2001:0:4136:e378:8000:63bf:f5ff:fffe",
    ],
)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


def test_a_redirect_is_followed_where_it_may_lead(server: Server) -> None:
    assert Remote(server.url("hop"), HERE).render() == b"picture"
    assert [path for path, _ in server.asked] == ["/hop", "/a.png"]


def test_a_redirect_to_a_private_address_is_refused(server: Server) -> None:
    for target in (server.url("a.png"), server.url("a.png", "[::ffff:127.0.0.1]"), "http://169.254.169.254/latest"):
        reason, message = refused(server.url(f"to?{target}", "localhost"), ("localhost",))
        assert reason == "refused_address"
        assert "is not a public address" in message
    assert all(path.startswith("/to?") for path, _ in server.asked)


def test_a_redirect_to_a_file_or_another_protocol_is_refused(server: Server) -> None:
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/a", "gopher://127.0.0.1/"):
        assert refused(server.url(f"to?{target}"))[0] == "refused_address"


def test_redirects_end(server: Server) -> None:
    assert refused(server.url("loop"))[0] == "unreachable"
    assert len(server.asked) == download.MAX_REDIRECTS + 1


def test_a_name_that_answers_with_another_address_the_second_time_gains_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = names(monkeypatch, {"rebind.example": ["127.0.0.1", "10.255.255.1"]})
    assert Remote(server.url("a.png", "rebind.example"), ("rebind.example",)).render() == b"picture"
    assert counted["rebind.example"] == 1  # the address that was checked is the one that is connected to
    assert server.asked[0][1]["Host"].startswith("rebind.example:")


def test_a_public_name_of_a_private_address_is_refused(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    names(monkeypatch, {"images.example": ["127.0.0.1"]})
    assert refused(server.url("a.png", "images.example"))[0] == "refused_address"
    assert not server.asked


def test_what_an_allowed_host_gave_is_not_given_where_it_is_not_allowed(server: Server) -> None:
    Remote(server.url("a.png"), HERE).render()
    assert refused(server.url("a.png"), ())[0] == "refused_address"


def test_passing_faults_are_tried_again(server: Server) -> None:
    assert Remote(server.url("flaky"), HERE).render() == b"picture"
    assert len(server.asked) == 3


def test_a_body_that_breaks_off_is_fetched_again(server: Server) -> None:
    assert Remote(server.url("short"), HERE).render() == b"pic"
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("path", "told", "tries"),
    [("missing", "HTTP 404", 1), ("down", "HTTP 500 (3 tries)", 3), ("zipped", "compressed", 1)],
)
def test_lasting_faults_are_told(server: Server, path: str, told: str, tries: int) -> None:
    reason, message = refused(server.url(path))
    assert (reason, told in message, len(server.asked)) == ("unreachable", True, tries)


def test_a_port_that_nobody_listens_on_and_a_name_that_is_none_are_unreachable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert refused(f"http://127.0.0.1:{port}/a.png")[0] == "unreachable"
    assert refused("http://no-such-name.invalid/a.png")[0] == "unreachable"


@pytest.mark.parametrize("path", ["endless", "long"])
def test_bodies_that_are_too_long_are_cut(server: Server, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "MAX_BYTES", 1 << 20)
    assert refused(server.url(path))[0] == "too_large"


@pytest.mark.parametrize("path", ["slow", "slow_head", "silent"])
def test_answers_that_trickle_are_cut_in_time(server: Server, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "SECONDS", 0.5)
    begun = time.monotonic()
    reason, message = refused(server.url(path))
    assert (reason, "not done in 0.5 s" in message) == ("unreachable", True)
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "url", ["http://", "http://[::1", "http://a b/c", "https:///x.png", "http://x:99999/", "http://" + "é" * 70]
)
def test_what_is_no_url_is_told(tmp_path: Path, url: str) -> None:
    with pytest.raises(ImageError) as caught:
        image_bytes(url, tmp_path)
    assert caught.value.reason in {"missing_image", "refused_address", "unreachable"}


def test_many_are_fetched_at_once_and_failures_are_told(server: Server, cache: Path) -> None:
    urls = ["a.png", "a.png", "wait?1", "wait?2", "wait?3", "missing"]
    remotes = [Remote(server.url(url), HERE) for url in urls]
    failed = download.fetch_all(remotes)
    assert [(remote.url, error.reason) for remote, error in failed.items()] == [(server.url("missing"), "unreachable")]
    assert server.most == 3
    assert len(list((cache / "urls").iterdir())) == 4
    asked = len(server.asked)
    assert download.fetch_all(remotes[:-1]) == {}
    assert len(server.asked) == asked


def test_messages_tell_no_password(server: Server) -> None:
    _, message = refused(server.url("missing").replace("://", "://me:secret@"))
    assert "secret" not in message


def test_rows_with_urls_become_samples_or_drops_with_a_reason(server: Server, tmp_path: Path) -> None:
    Image.effect_noise((40, 30), 50).save(tmp_path / "a.png")
    server.body = (tmp_path / "a.png").read_bytes()
    urls = [server.url("a.png"), server.url("missing"), server.url("a.png", "localhost"), "HTTP://127.0.0.1:1/x"]
    lines = [json.dumps({"id": f"row-{n}", "url": {"bytes": None, "path": url}}) for n, url in enumerate(urls)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    source = 'type = "jsonl"\npath = "a.jsonl"\nkey = "{id}"\nimage = "{url}"\nallow_hosts = ["127.0.0.1"]\n'
    source += 'prompt = "Read."\nanswer = "x"\n'
    (tmp_path / "set.toml").write_text(f'name = "set"\nmax_dropped = 1.0\n[[source]]\n{source}')
    results = [ingest(tmp_path / "set.toml", store=str(tmp_path / "store"), workers=1) for _ in range(2)]
    assert results[0]["drops"] == {"refused_address": 1, "unreachable": 2}
    assert results[1]["unchanged"]
    assert sum(path == "/a.png" for path, _ in server.asked) == 1
    assert {row.key for row in rows(tmp_path, source)} == {f"row-{n}" for n in range(4)}
    assert good(tmp_path, source)[0].images == (Remote(server.url("a.png"), HERE),)
