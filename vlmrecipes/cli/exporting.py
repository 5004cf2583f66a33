"""`export`: what a run made, in forms that others load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from vlmrecipes.cli.options import STORE, Json, StoreUri, Trust
from vlmrecipes.cli.output import outcome
from vlmrecipes.errors import InputError


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A finished run: an id, its beginning, or `latest`.")] = "",
    wanted: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "--to", "-f", help="adapter, merged_16bit, merged_4bit, gguf; several times for several."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Default: exports/FORMAT in the run's folder."),
    ] = None,
    max_shard_size: Annotated[str, typer.Option(metavar="SIZE", help="Largest file of weights.")] = "5GB",
    samples: Annotated[int, typer.Option(min=1, help="Samples that the export is held against the run by.")] = 16,
    base: Annotated[
        str, typer.Option(metavar="ID|DIR", help="Where the very base model lies now, when it has moved.")
    ] = "",
    converter: Annotated[
        str, typer.Option(metavar="PATH", help="llama.cpp, or its convert_hf_to_gguf.py; default: $LLAMA_CPP, PATH.")
    ] = "",
    outtype: Annotated[str, typer.Option(help="Precision of a GGUF: f32, f16, bf16, q8_0.")] = "bf16",
    hub: Annotated[
        str, typer.Option(metavar="OWNER/NAME", help="Also upload to this repository of the Hugging Face hub.")
    ] = "",
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; default: private.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder as it would be uploaded, and upload nothing.")
    ] = False,
    verify: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Hold an export against its run again, and write nothing.")
    ] = None,
    trust_remote_code: Trust = False,
    store: StoreUri = STORE,
    as_json: Json = False,
) -> None:
    """Write a run's weights as adapter, merged model or GGUF, and check that they say what the run's model says."""
    from vlmrecipes.exports.formats import Settings
    from vlmrecipes.exports.work import export_run, verify_export

    with outcome(as_json=as_json) as done:
        if bool(run) == bool(verify):
            raise InputError.one("give either a RUN with --format, or --verify DIR")
        if verify:
            view = verify_export(verify, store=store, base=base, trust_remote_code=trust_remote_code)
            done(view, _verify_lines(view))
            if not view["ok"]:
                raise typer.Exit(1)
            return
        settings = Settings(samples=samples, max_shard_size=max_shard_size, outtype=outtype, converter=converter)
        names = [name for one in wanted or () for name in one.split(",")]
        view = export_run(
            run,
            names,
            output,
            store=store,
            base=base,
            settings=settings,
            repo=hub,
            public=public,
            dry_run=dry_run,
            trust_remote_code=trust_remote_code,
        )
        lines = [line for each in view["exports"] for line in _lines(each)]
        done(view, [*lines, *([f"uploaded to {view['hub']['url']}"] if view["hub"] else [])])


def _lines(view: Mapping[str, Any]) -> list[str]:
    from vlmrecipes.page.formats import size

    return [f"{view['path']}  {size(view['bytes'])}", *_parity_lines(view["parity"])]


def _parity_lines(parity: Mapping[str, Any]) -> list[str]:
    if "tokens" not in parity:
        return []
    tokens, answers = parity["tokens"], parity["answers"]
    agree = f"{tokens['agree']} of {tokens['n']} tokens agree, {tokens['ties']} ties"
    same = f"{answers['same']} of {parity['samples']} answers the same"
    lines = [f"  against {parity['reference']}, computed in {parity['dtype']}: {agree}; {same}"]
    if trained := parity.get("trained"):
        lines.append(
            f"  against {trained['reference']}, which was trained: {trained['tokens']['agree']} of {trained['tokens']['n']} "
            f"tokens agree; {trained['answers']['same']} of {trained['samples']} answers the same"
        )
    return lines


def _verify_lines(view: Mapping[str, Any]) -> list[str]:
    return [
        view["path"],
        *(_parity_lines(view["parity"]) if view["parity"] else ()),
        *(f"FAIL  {problem}" for problem in view["problems"]),
        *(["ok"] if view["ok"] else ()),
    ]
