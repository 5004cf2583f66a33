"""Where a store lies: a local folder, or a prefix in an S3 bucket; and what differs between the two.

Writers to a folder take turns by locks. Writers to a bucket do not wait for each other: each commits optimistically and
looks again when another was faster.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from urllib.parse import urlsplit

from vlmrecipes.errors import InputError, StoreError

S3 = "s3://"


def is_remote(uri: str) -> bool:
    """Tell whether the store is in a bucket. Raises InputError for a URI that is neither a folder nor `s3://`."""
    if "://" not in uri:
        return False
    if not uri.startswith(S3) or not urlsplit(uri).netloc:
        raise InputError.one("a store is a local folder or s3://BUCKET/PREFIX", key=f"--store {_without_secret(uri)}")
    if "@" in urlsplit(uri).netloc:
        problem = (
            "credentials do not belong in the URI, which records keep: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
        raise InputError.one(problem, key=f"--store {_without_secret(uri)}")
    return True


def _without_secret(uri: str) -> str:
    scheme, _, rest = uri.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def absolute(uri: str) -> str:
    """Return the URI as another process, with another working folder, has to name it."""
    return uri if is_remote(uri) else str(Path(uri).absolute())


def local(uri: str) -> Path:
    """Return the folder of a local store. Raises StoreError when something else is there."""
    path = Path(uri)
    if path.exists() and not path.is_dir():
        raise StoreError(f"{uri}: not a folder; a store is one")
    return path


def options(uri: str) -> dict[str, str]:
    """Return what LanceDB must be told besides the usual AWS variables, which it reads itself."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    return {"allow_http": "true"} if is_remote(uri) and endpoint.startswith("http://") else {}


WRITERS = "writers"
"""Lock that all who write data share, and that pruning holds alone. No dataset has its lock: those are in `datasets/`."""


def held(uri: str, name: str, *, shared: bool = False) -> AbstractContextManager[None]:
    """Hold the lock `name` of a local store while the block runs, alone or `shared`; a store in a bucket has no locks."""
    return nullcontext() if is_remote(uri) else _locked(uri, local(uri) / "locks" / name, shared=shared)


@contextmanager
def _locked(uri: str, path: Path, *, shared: bool) -> Iterator[None]:
    """Hold a lock on `path`, a file in the store `uri`; waits for it. The system frees it when the process ends."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        opened = path.open("w")
    except OSError as error:
        raise StoreError(f"{uri}: cannot be written: {error.strerror}") from None
    with opened as file:
        fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


DISK = re.compile("No space left on device|Disk quota exceeded|File too large|Read-only file system")
"""What the system says when a file cannot be written; Lance puts it into its own errors."""


@contextmanager
def written(uri: str) -> Iterator[None]:
    """Raise StoreError, with the way out, when the disk of the store takes no more while the block runs."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        if (why := DISK.search(str(error))) is None:
            raise
        raise StoreError(
            f"{uri}: cannot be written: {why[0]}; earlier snapshots are as they were: make room, then call again"
        ) from None


WAYS_OUT = (
    (
        "get AWS credentials|CredentialsNotLoaded",
        "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    ),
    ("<Code>InvalidAccessKeyId", "the access key is not known there: look at AWS_ACCESS_KEY_ID"),
    ("<Code>SignatureDoesNotMatch", "the secret key is wrong: look at AWS_SECRET_ACCESS_KEY"),
    ("<Code>(ExpiredToken|InvalidToken)", "the session's token is not valid any more: renew AWS_SESSION_TOKEN"),
    (
        "status: 403",
        "access is denied: the key needs s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject",
    ),
    ("status: 404", "there is no such bucket: make it first"),
    (
        "BareRedirect|status: 3|<Code>AuthorizationHeaderMalformed",
        "the bucket is in another region: look at AWS_REGION",
    ),
    ("status: 4", "its endpoint refuses what it is asked: look at AWS_ENDPOINT_URL and AWS_REGION"),
    ("status: 5", "its endpoint has a fault of its own (HTTP 5xx): call again later"),
    ("HttpError", "its endpoint does not answer: look at AWS_ENDPOINT_URL and AWS_REGION"),
)
"""What a failure's text holds (regular expressions of object_store's own words, never a bare number: addresses and times
hold numbers too), and what is said of it; the first that fits."""
SHOWN = 200


def unreachable(uri: str, error: Exception) -> StoreError:
    """Return the error for a store that cannot be opened, with the way out. The failure's own text may hold keys: cut short."""
    text = str(error)
    if not is_remote(uri):
        return StoreError(f"{uri}: cannot open the store: {text}")
    told = next((way for mark, way in WAYS_OUT if re.search(mark, text)), text[:SHOWN])
    return StoreError(f"{uri}: the store cannot be reached: {told}")
