"""`snapshots`: the verbs about frozen versions of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vlmrecipes.cli.options import STORE, Json, StoreUri
from vlmrecipes.cli.output import outcome

snapshots = typer.Typer(help="Look at frozen versions of a dataset.", no_args_is_help=True)

Name = Annotated[
    str, typer.Argument(metavar="NAME@N", help="A snapshot, also by label, NAME@LABEL; without @ the newest.")
]


@snapshots.command("list")
def list_all(store: StoreUri = STORE, as_json: Json = False) -> None:
    """List the snapshots of the store."""
    from vlmrecipes.cli.snapshot_lines import list_lines
    from vlmrecipes.data.labels import labels
    from vlmrecipes.data.snapshot import list_snapshots

    with outcome(as_json=as_json) as done:
        keys = ("snapshot", "fingerprint", "samples", "created")
        manifests = list_snapshots(store)
        named = labels(store) if manifests else {}
        rows = [{key: m[key] for key in keys} | {"labels": named.get(m["snapshot"], [])} for m in manifests]
        done({"snapshots": rows}, list_lines(rows))


@snapshots.command()
def show(
    name: Name,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write one HTML page that opens offline.")] = None,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Show a snapshot: counts, statistics, drops with reasons; with --html also pictures."""
    from vlmrecipes.cli.snapshot_lines import show_lines
    from vlmrecipes.data.gallery import write_page
    from vlmrecipes.data.snapshot import open_snapshot
    from vlmrecipes.data.statistics import describe

    with outcome(as_json=as_json) as done:
        snapshot = open_snapshot(store, name)
        view = describe(snapshot)
        view |= write_page(snapshot, html, view["statistics"]) if html else {}
        done(view, [f"page: {html}"] if html else show_lines(view))


@snapshots.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A", help="A snapshot, NAME@N.")],
    after: Annotated[str, typer.Argument(metavar="B", help="A later one of the same dataset.")],
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Tell what changed between two snapshots: samples, sides, statistics."""
    from vlmrecipes.cli.snapshot_lines import difference_lines
    from vlmrecipes.data.difference import difference
    from vlmrecipes.data.snapshot import open_snapshot

    with outcome(as_json=as_json) as done:
        view = difference(open_snapshot(store, before), open_snapshot(store, after))
        done(view, difference_lines(view))


@snapshots.command()
def export(
    name: Name,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A folder that is not there yet.")],
    formats: Annotated[
        str, typer.Option("--format", help="parquet, croissant, hf, imagefolder, jsonl; several with commas.")
    ] = "parquet",
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Write a snapshot as files that other tools read, with a dataset card."""
    from vlmrecipes.data.export import export as work
    from vlmrecipes.data.snapshot import open_snapshot

    with outcome(as_json=as_json) as done:
        wanted = list(dict.fromkeys(word.strip() for word in formats.split(",") if word.strip()))
        view = work(open_snapshot(store, name), output, wanted)
        done(view, [f"{view['snapshot']} → {view['path']}: {view['files']} files, {view['bytes']} bytes"])


@snapshots.command()
def verify(name: Name, store: StoreUri = STORE, as_json: Json = False) -> None:
    """Hash every sample and every image byte again, and tell what is not as it was frozen."""
    from vlmrecipes.data.snapshot import open_snapshot
    from vlmrecipes.data.verify import verify as work

    with outcome(as_json=as_json) as done:
        view = work(open_snapshot(store, name))
        counts = f"{view['samples']} samples, {view['images']} images"
        done(
            view,
            [
                *view["problems"],
                f"{view['snapshot']} {'is as it was frozen' if view['ok'] else 'IS DAMAGED'}: {counts}",
            ],
        )
        if not view["ok"]:
            raise typer.Exit(1)


@snapshots.command()
def tag(
    name: Name,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Then usable as NAME@LABEL.")],
    force: Annotated[bool, typer.Option("--force", help="Move a label that is in use.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Take the label away.")] = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Give a snapshot a label; a labelled snapshot is never pruned."""
    from vlmrecipes.data.labels import labels, remove_label, set_label
    from vlmrecipes.data.snapshot import open_snapshot

    with outcome(as_json=as_json) as done:
        found = open_snapshot(store, name)
        dataset, number = found.manifest["name"], found.manifest["number"]
        if remove:
            remove_label(store, dataset, number, label)
        else:
            set_label(store, dataset, number, label, force=force)
        view = {"snapshot": found.name, "fingerprint": found.fingerprint, "labels": labels(store).get(found.name, [])}
        done(view, [f"{found.name}: {', '.join(view['labels']) or 'no label'}"])


@snapshots.command()
def prune(
    keep: Annotated[int, typer.Option(metavar="K", help="The newest so many of each dataset stay.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only tell.")] = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Remove old snapshots that have no label and no run, and free what only they held."""
    from vlmrecipes.cli.snapshot_lines import prune_lines
    from vlmrecipes.prune import prune_snapshots

    with outcome(as_json=as_json) as done:
        view = prune_snapshots(store, keep=keep, yes=yes)
        done(view, prune_lines(view))
