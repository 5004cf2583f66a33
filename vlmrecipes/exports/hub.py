"""An export on the Hugging Face hub: everything is checked before the work, and uploaded in one commit after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.errors import InputError, Problem, RunError
from vlmrecipes.exports import note
from vlmrecipes.exports.formats import REPO
from vlmrecipes.progress import say

KEY = "--hub"
OWN = {".gitattributes", "README.md"}
"""Files that a repository may hold before its first export."""


def problems(repo: str, wanted: Sequence[str]) -> list[Problem]:
    """Return what is wrong with what is asked for."""
    if not repo:
        return []
    named = [] if REPO.fullmatch(repo) else [Problem("", KEY, f"expected OWNER/NAME, found {repo!r}")]
    several = [Problem("", KEY, "one format goes to one repository; export the others by themselves")]
    return named + (several if len(wanted) > 1 else [])


def check(repo: str) -> None:
    """Raise InputError when nothing could be uploaded to `repo`, or it holds something that is no export."""
    hub = extras.need("huggingface_hub", "upload an export")
    if hub.constants.HF_HUB_OFFLINE:
        raise InputError.one("HF_HUB_OFFLINE is set; unset it, or write the folder alone with --dry-run", key=KEY)
    if hub.get_token() is None:
        way = "run `hf auth login` or set HF_TOKEN; --dry-run writes the folder without one"
        raise InputError.one(f"there is no token for the hub: {way}", key=KEY)
    with _told(hub, f"nothing was exported: the hub takes nothing for {repo}"):
        hub.HfApi().whoami()
        try:
            files = set(hub.HfApi().list_repo_files(repo)) - OWN
        except hub.errors.RepositoryNotFoundError:
            files = set()
    if files and note.NAME not in files:
        shown = ", ".join(sorted(files)[:3])
        raise InputError.one(f"{repo} holds files that are no export ({shown}); name a new repository", key=KEY)


def push(folder: Path, repo: str, *, public: bool) -> dict[str, str]:
    """Upload an export in one commit, in place of an earlier one; returns `{repo, url, commit}`.

    Raises RunError when the hub takes it not; the folder stays.
    """
    hub = extras.need("huggingface_hub", "upload an export")
    say(f"upload {folder.name} to {repo}")
    with _told(hub, f"{folder} is written, but not uploaded; `hf upload {repo} {folder}` tries again"):
        api = hub.HfApi()
        url = api.create_repo(repo, private=not public, exist_ok=True)
        told = note.read(folder)
        message = f"{told['format']} of run {told['run']}"
        done = api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message, delete_patterns="*")
    return {"repo": repo, "url": str(url), "commit": str(done.oid)}


@contextmanager
def _told(hub: Any, what: str) -> Iterator[None]:
    import httpx

    try:
        yield
    except (hub.errors.HfHubHTTPError, httpx.HTTPError, OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()
        raise RunError(f"{what}: {reason[0] if reason else type(error).__name__}") from None
