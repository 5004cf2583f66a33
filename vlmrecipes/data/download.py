"""Images by URL: fetched once, with limits, from addresses that are checked before anything is sent.

Every hop of a redirect is checked anew. A host name is resolved here, all its addresses must be public, and the connection
goes to one of these very addresses (no second look-up that could answer otherwise: DNS rebinding); TLS checks the host's name.
Proxies of the environment are not used: behind one, the address that is connected to could not be known.

What was fetched is kept by its content in `$VLMRECIPES_CACHE` (default: `vlmrecipes` in `$XDG_CACHE_HOME` or `~/.cache`): the
same URL gives the same bytes from then on, until the folder is deleted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import socket
import ssl
import tempfile
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vlmrecipes.data.sample import ImageError
from vlmrecipes.fingerprint import sha256
from vlmrecipes.version import VERSION

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 64 << 20
"""A longer body is cut off, and the row dropped."""
SECONDS = 60.0
"""For one URL with its redirects, however slowly bytes trickle."""
QUIET_SECONDS = 10.0
"""For a connection, and between two pieces of an answer."""
TRIES = 3
AT_ONCE = 16
"""URLs fetched at the same time."""
PAUSE_SECONDS = 0.5
"""Before the second try; doubled before each further one."""
MAX_REDIRECTS = 5
_REDIRECT, _OK, _AGAIN = (301, 302, 303, 307, 308), 200, (408, 425, 429, 500, 502, 503, 504)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SHOWN = 200

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """An image not fetched yet: small to pickle, fetched in the worker that needs it."""

    url: str
    allow_hosts: tuple[str, ...] = ()
    """Hosts whose addresses may be private, loopback or link-local."""

    def render(self) -> bytes:
        """Return the encoded image. Raises ImageError (`unreachable`, `refused_address`, `too_large`)."""
        data = _Cache(self).read()
        return _in_thread(_kept(self)) if data is None else data


def fetch_all(remotes: Iterable[Remote]) -> dict[Remote, ImageError]:
    """Fetch what is not kept yet, several at a time; return those that could not be fetched, and why."""
    absent = [remote for remote in dict.fromkeys(remotes) if not _Cache(remote).digest()]
    return _in_thread(_all_kept(absent)) if absent else {}


async def _all_kept(remotes: list[Remote]) -> dict[Remote, ImageError]:
    free, failed = asyncio.Semaphore(AT_ONCE), dict[Remote, ImageError]()

    async def fetch(remote: Remote) -> None:
        async with free:
            try:
                await _kept(remote)
            except ImageError as error:
                failed[remote] = error

    await asyncio.gather(*map(fetch, remotes))
    return failed


async def _kept(remote: Remote) -> bytes:
    data, hosts = await _fetched(remote)
    _Cache(remote).write(data, hosts)
    return data


def cache_folder() -> Path:
    """Return the folder that keeps what was fetched."""
    if own := os.environ.get("VLMRECIPES_CACHE"):
        return Path(own)
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "vlmrecipes"


def _in_thread(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a thread of its own: the caller's may already have an event loop (a notebook)."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


class _AgainError(Exception):
    """A fault that may be gone at the next try."""


async def _fetched(remote: Remote) -> tuple[bytes, set[str]]:
    """Return the body, and which of `allow_hosts` were asked."""
    told = ""
    for attempt in range(TRIES):
        if attempt:
            await asyncio.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        try:
            async with asyncio.timeout(SECONDS):
                return await _followed(remote, attempt)
        except TimeoutError:
            raise ImageError("unreachable", f"{_shown(remote.url)}: not done in {SECONDS:g} s") from None
        except _AgainError as error:
            told = str(error)
    raise ImageError("unreachable", f"{_shown(remote.url)}: {told} ({TRIES} tries)")


async def _followed(remote: Remote, attempt: int) -> tuple[bytes, set[str]]:
    import httpx

    hosts: set[str] = set()
    try:
        url = httpx.URL(remote.url)
        for _ in range(MAX_REDIRECTS + 1):
            if url.scheme not in {"http", "https"} or not url.host:
                raise ImageError("refused_address", f"{_shown(str(url))}: only http and https are fetched")
            addresses = await _addresses(url, remote.allow_hosts)
            hosts |= {url.host} & set(remote.allow_hosts)
            answer = await _asked(url, addresses[attempt % len(addresses)])
            if isinstance(answer, bytes):
                return answer, hosts
            url = url.join(answer.url)
    except (httpx.InvalidURL, ValueError) as error:
        raise ImageError("missing_image", f"{_shown(remote.url)}: not a URL: {error}") from None
    except httpx.TransportError as error:
        raise _AgainError(str(error) or type(error).__name__) from None
    raise ImageError("unreachable", f"{_shown(remote.url)}: more than {MAX_REDIRECTS} redirects")


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """Where a redirect leads."""

    url: str


async def _addresses(url: httpx.URL, allow_hosts: tuple[str, ...]) -> list[str]:
    """Return the addresses of the URL's host. Raises ImageError when one is not public and the host is not allowed."""
    host = url.raw_host.decode("ascii").strip("[]")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, url.port or url.scheme, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _AgainError(f"no address of {host}: {getattr(error, 'strerror', None) or error}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if url.host not in allow_hosts:
        for address in addresses:
            if not is_public(address):
                way = f"name {url.host!r} in `allow_hosts` if it is meant"
                raise ImageError("refused_address", f"{_shown(str(url))}: {address} is not a public address; {way}")
    return addresses


def is_public(address: str) -> bool:
    """Tell whether an address is of the public internet, as is any that is written inside it (RFC 4291, 3056, 4380, 6052)."""
    ip = ipaddress.ip_address(address)
    inner: list[Any] = [ip]
    if isinstance(ip, ipaddress.IPv6Address):
        inner += [ip.ipv4_mapped, ip.sixtofour, *(ip.teredo or ())]
        inner += [ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)] if ip in _NAT64 else []
        inner = inner[1:] if ip.ipv4_mapped else inner
    return all(one is None or (one.is_global and not one.is_multicast) for one in inner)


async def _asked(url: httpx.URL, address: str) -> bytes | _Elsewhere:
    """Return the body that `address` answers for `url`, or where it sends on."""
    import httpx

    timeout = httpx.Timeout(QUIET_SECONDS)
    async with httpx.AsyncClient(verify=_tls(), trust_env=False, follow_redirects=False, timeout=timeout) as client:
        headers = {"Host": url.netloc.decode("ascii"), "Accept": "image/*, */*;q=0.5", "Accept-Encoding": "identity"}
        headers["User-Agent"] = f"vlmrecipes/{VERSION}"
        name = {"sni_hostname": url.raw_host.decode("ascii").strip("[]")}
        request = client.build_request("GET", url.copy_with(host=address), headers=headers, extensions=name)
        response = await client.send(request, stream=True)
        try:
            return await _answer(response, url)
        finally:
            await response.aclose()


async def _answer(response: httpx.Response, url: httpx.URL) -> bytes | _Elsewhere:
    status = response.status_code
    if status in _REDIRECT and "location" in response.headers:
        return _Elsewhere(response.headers["location"])
    if status in _AGAIN:
        raise _AgainError(f"HTTP {status}")
    if status != _OK:
        raise ImageError("unreachable", f"{_shown(str(url))}: HTTP {status}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise ImageError("unreachable", f"{_shown(str(url))}: sent compressed although that was not asked for")
    length = response.headers.get("content-length", "")
    data = bytearray()
    if not (length.isdecimal() and int(length) > MAX_BYTES):
        async for piece in response.aiter_raw():
            data += piece
            if len(data) > MAX_BYTES:
                break
        else:
            return bytes(data)
    raise ImageError("too_large", f"{_shown(str(url))}: more than {MAX_BYTES} bytes")


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Return the settings of TLS: names and certificates are checked."""
    import httpx

    return httpx.create_ssl_context(trust_env=False)


def _shown(url: str) -> str:
    """Return the URL for a message: without a password, not too long."""
    scheme, mark, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return (scheme + mark + place.rpartition("@")[2] + slash + path)[:_SHOWN]


class _Cache:
    """What was fetched for one URL: `urls/<hash of the URL>.json` names `content/<hash of the bytes>`."""

    def __init__(self, remote: Remote) -> None:
        self._folder, self._remote = cache_folder(), remote
        self._entry = self._folder / "urls" / f"{sha256(remote.url.encode())}.json"

    def digest(self) -> str:
        """Return the name of the content; empty when it is not there, or came from a host that is not allowed now."""
        try:
            entry = json.loads(self._entry.read_text("utf-8"))
            digest = str(entry["sha256"])
            good = set(entry["allow_hosts"]) <= set(self._remote.allow_hosts) and self._content(digest).is_file()
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return digest if good else ""

    def read(self) -> bytes | None:
        """Return the bytes; None when they are not there or damaged."""
        digest = self.digest()
        data = self._content(digest).read_bytes() if digest else b""
        return data if digest == sha256(data) else None

    def _content(self, digest: str) -> Path:
        return self._folder / "content" / digest

    def write(self, data: bytes, hosts: set[str]) -> None:
        """Keep `data`: content first, then the entry that names it, each moved into place whole."""
        digest = sha256(data)
        _put(self._content(digest), data)
        entry = {"url": self._remote.url, "sha256": digest, "allow_hosts": sorted(hosts)}
        _put(self._entry, json.dumps(entry).encode())


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(data)
    Path(file.name).replace(path)
