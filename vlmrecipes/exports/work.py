"""Exporting: what was asked for is checked, written aside, held against the run, then given its name and noted."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vlmrecipes import extras
from vlmrecipes.data.export import aside
from vlmrecipes.errors import InputError, Problem, RunError
from vlmrecipes.exports import card, formats, gguf, hub, note, weights
from vlmrecipes.exports.formats import ADAPTER, GGUF, MERGED, MERGED_4BIT, Settings
from vlmrecipes.exports.parity import Probe, check
from vlmrecipes.exports.source import Source, open_source
from vlmrecipes.models.load import device
from vlmrecipes.progress import say
from vlmrecipes.records import exports, stored
from vlmrecipes.records.report import write_report


def export_run(  # noqa: PLR0913
    name: str,
    wanted: Sequence[str],
    output: Path | None = None,
    *,
    store: str,
    base: str = "",
    settings: Settings | None = None,
    repo: str = "",
    public: bool = False,
    dry_run: bool = False,
    trust_remote_code: bool = False,
) -> dict[str, Any]:
    """Export a finished run in each of the formats `wanted` and return the JSON object of `vlmrecipes export`.

    One format goes to `output`, several to folders of their names in it; without `output`, to `exports/` in the run's folder.
    One format may also go to the hub repository `repo`, which is made private unless `public`; `dry_run` leaves the upload out.
    Returns `{run, path, parity, hub, exports}`: `exports` holds a `{format, path, parity, bytes}` each, path and parity are the
    first's, `hub` is None or what `hub.push` returns.

    Raises InputError with all that is wrong before any work, RunError when an export does not say what the run's model says:
    nothing is then left under its name.
    """
    settings, wanted = settings or Settings(), tuple(dict.fromkeys(wanted))
    if problems := [*formats.check(wanted, settings), *hub.problems(repo, wanted)]:
        raise InputError(problems)
    source = open_source(name, store=store, base=base, trust_remote_code=trust_remote_code)
    places = {each: _place(source, each, output, several=len(wanted) > 1) for each in wanted}
    _check(source, places, settings)
    if repo and not dry_run:
        hub.check(repo)
    made = []
    with tempfile.TemporaryDirectory(prefix="vlmrecipes-") as pictures:
        probe = Probe(source, settings.samples, Path(pictures))
        for each, place in places.items():
            made.append(_export(source, probe, each, place, settings, repo))
    pushed = _push(source, made[0], repo, public=public) if repo and not dry_run else None
    write_report([source.run], source.run / "report.html", stored.images(store, [source.run]))
    return {
        "run": source.run.name,
        "path": made[0]["path"],
        "parity": made[0]["parity"],
        "hub": pushed,
        "exports": made,
    }


def _place(source: Source, wanted: str, output: Path | None, *, several: bool) -> Path:
    if output is None:
        return exports.folder_of(source.run) / wanted
    return output / wanted if several else output


def _check(source: Source, places: Mapping[str, Path], settings: Settings) -> None:
    problems = [problem for place in places.values() for problem in formats.check_target(place)]
    if ADAPTER in places and source.adapter is None:
        problems.append(Problem("", "--format", "this run trained all weights and has no adapter; use merged_16bit"))
    elif ADAPTER in places and source.plan.recipe.model.init == "config":
        problems.append(Problem("", "--format", "its base has random weights that nobody else has; use merged_16bit"))
    few = [MERGED_4BIT] if MERGED_4BIT in places else [f"a run with load_in = {source.load_in!r}"] * source.few_bits
    if few and device() != "cuda":
        problems.append(Problem("", "--format", f"{few[0]} needs a CUDA GPU, and there is none here"))
    if problems:
        raise InputError(problems)
    if few:
        extras.need("bitsandbytes", f"export {few[0]}")
    if GGUF in places:
        gguf.find(settings.converter)


def _export(  # noqa: PLR0913, PLR0917
    source: Source, probe: Probe, wanted: str, place: Path, settings: Settings, repo: str
) -> dict[str, Any]:
    say(f"export {source.run.name} as {wanted}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with aside(place) as folder:
        parity = _written(source, probe, wanted, folder, settings)
        if not parity["ok"]:
            raise RunError(f"{wanted} of {source.run.name} is not what was trained: {'; '.join(parity['problems'])}")
        card.write(source, folder, wanted, parity, name=repo or "FOLDER")
        told = note.write(source, wanted, parity, folder)
    exports.add(source.run, told | {"path": str(place.absolute())})
    size = sum(file["bytes"] for file in told["files"])
    return {"format": wanted, "path": str(place.absolute()), "parity": parity, "bytes": size}


def _written(source: Source, probe: Probe, wanted: str, folder: Path, settings: Settings) -> dict[str, Any]:
    """Write the export into `folder` and return its parity."""
    if wanted == GGUF:
        return gguf.write(source, probe, folder, settings)
    digests = None
    if wanted == ADAPTER:
        weights.write_adapter(source, folder)
    elif wanted == MERGED:
        digests = weights.write_merged(source, folder, settings.max_shard_size)
    else:
        weights.write_merged_4bit(source, folder, settings.max_shard_size)
    return _held(probe, folder, wanted, digests)


def _held(probe: Probe, folder: Path, wanted: str, digests: Mapping[str, str] | None = None) -> dict[str, Any]:
    base = probe.source.base.path if wanted == ADAPTER else ""
    return check(probe, folder, name=wanted, base=base, weights=digests, quantised=wanted == MERGED_4BIT)


def _push(source: Source, made: Mapping[str, Any], repo: str, *, public: bool) -> dict[str, str]:
    pushed = hub.push(Path(made["path"]), repo, public=public)
    told = note.read(Path(made["path"]))
    exports.add(source.run, told | {"path": pushed["url"], "commit": pushed["commit"]})
    return pushed


def verify_export(folder: Path, *, store: str, base: str = "", trust_remote_code: bool = False) -> dict[str, Any]:
    """Hold an export against its `export.json` and against its run again; returns `{path, ok, parity, problems}`.

    Raises InputError when `folder` is no export, or its run is not in the store.
    """
    told = note.read(folder)
    problems = note.changes(folder, told)
    source = open_source(str(told["run"]), store=store, base=base, trust_remote_code=trust_remote_code)
    try:
        parity = _again(source, folder, told)
        problems += parity["problems"]
    except RunError as error:
        parity = None
        problems.append(str(error))
    return {"path": str(folder.absolute()), "ok": not problems, "parity": parity, "problems": problems}


def _again(source: Source, folder: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="vlmrecipes-") as pictures:
        probe = Probe(source, told["parity"]["samples"], Path(pictures))
        return gguf.again(probe, folder) if told["format"] == GGUF else _held(probe, folder, told["format"])
