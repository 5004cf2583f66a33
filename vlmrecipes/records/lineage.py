"""The chain from a run's numbers back to its data, code and machine, as a report shows it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from vlmrecipes.page import formats
from vlmrecipes.page.network import Network, Node, network
from vlmrecipes.records.graph import Graph, add_run
from vlmrecipes.records.view import Pair, Table


def tables(record: Mapping[str, Any]) -> list[Table]:
    """Return the chain of hashes from the data to the seal, and the machine."""
    recipe, model, plan = (record.get(key) or {} for key in ("recipe", "model", "plan"))
    snapshots = [
        (f"{part.get('role')} {part.get('snapshot')}", part.get("fingerprint")) for part in record.get("data") or []
    ]
    resumed = (record.get("train") or {}).get("resumed_from")
    chain = [
        *snapshots,
        ("recipe as resolved", recipe.get("fingerprint")),
        ("recipe file", recipe.get("source_sha256")),
        ("plan", plan.get("fingerprint")),
        ("model", " ".join(str(model[key]) for key in ("id", "revision") if model.get(key))),
        ("precision", ", ".join(str(model[key]) for key in ("dtype", "attention") if model.get(key))),
        ("resumed from", formats.setting(resumed) if resumed else None),
        ("seal", record.get("seal") or "not sealed"),
    ]
    found = [
        Table("Chain", tuple((key, str(value)) for key, value in chain if value)),
        Table("Model files (SHA-256)", tuple((model.get("files") or {}).items())),
        Table("LoRA modules", tuple((str(i), str(name)) for i, name in enumerate(model.get("lora_modules") or [], 1))),
        Table("Environment", tuple(_environment(record.get("environment") or {}))),
        Table("Packages", tuple(((record.get("environment") or {}).get("packages") or {}).items())),
        Table("Outputs (SHA-256)", tuple((str(part["path"]), _output(part)) for part in record.get("outputs") or [])),
    ]
    return [table for table in found if table.rows]


def exported(entries: Sequence[Mapping[str, Any]]) -> list[Table]:
    """Return where the run's exports lie, and how each was found to answer like the run's model."""
    rows = tuple((str(entry.get("format")), _exported(entry)) for entry in entries)
    return [Table("Exports", rows)] if rows else []


def _exported(entry: Mapping[str, Any]) -> str:
    found = entry.get("parity") or {}
    sides = [side for side in (found, found.get("trained")) if side and side.get("tokens")]
    told = [
        f"{side['tokens']['agree']} of {side['tokens']['n']} tokens as {side['reference']} ({side['tokens']['ties']} ties)"
        for side in sides
    ]
    return " · ".join([str(entry.get("path")), *told])


def _output(part: Mapping[str, Any]) -> str:
    return f"{part.get('sha256')} · {formats.size(part.get('bytes'))}"


def _environment(found: Mapping[str, Any]) -> list[Pair]:
    cpu, git = found.get("cpu") or {}, found.get("git") or {}
    dirty = " with local changes" if git.get("dirty") else ""
    pairs = [
        ("python", found.get("python")),
        ("platform", found.get("platform")),
        ("processor", f"{cpu.get('name')} {formats.TIMES} {cpu.get('count')}" if cpu else None),
        ("memory", formats.size(found.get("memory_bytes"))),
        *(("accelerator", _accelerator(each)) for each in found.get("accelerators") or []),
        ("code", f"{git.get('commit')}{dirty}" if git else None),
        ("remote", git.get("remote")),
        *((found.get("variables") or {}).items()),
    ]
    return [(key, str(value)) for key, value in pairs if value]


def _accelerator(each: Mapping[str, Any]) -> str:
    return f"{each.get('name')}, driver {each.get('driver')}, {formats.size(each.get('memory_bytes'))}"


TARGETS = {
    **dict.fromkeys(("source", "snapshot"), "data"),
    **dict.fromkeys(("recipe", "plan", "model"), "settings"),
    **dict.fromkeys(("metric",), "evaluation"),
    **dict.fromkeys(("predictions",), "examples"),
}
"""The section of a report that tells more of a kind of node."""


def drawing(record: Mapping[str, Any], exports: Sequence[Mapping[str, Any]], anchor: str) -> Network | None:
    """Return the graph of a run as it is drawn; None where the record does not hold enough, or too much, for one."""
    graph = Graph()
    try:
        add_run(graph, record, exports)
        told = graph.to_json()
        nodes = [Node(each["id"], each["kind"], _label(each), _target(each["kind"], anchor)) for each in told["nodes"]]
        return network(nodes, [(edge["from"], edge["to"], edge["how"]) for edge in told["edges"]])
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _label(node: Mapping[str, Any]) -> str:
    """Return what tells a node from others; that it is of this run goes without saying."""
    own = {"plan": node.get("plan"), "predictions": str(node.get("sha256"))[:12], "run": node.get("run")}
    if node["kind"] == "weights" and node.get("files"):
        return f"{len(node['files'])} files"
    return str(own.get(node["kind"]) or node["label"])


def _target(kind: str, anchor: str) -> str:
    return f"{anchor}-{TARGETS[kind]}" if kind in TARGETS else ""


def steps(record: Mapping[str, Any]) -> list[Pair]:
    """Return what to do to get the same numbers again: a sentence and a command each, in their order."""
    git, run = (record.get("environment") or {}).get("git") or {}, str(record.get("run"))
    names = dict.fromkeys(str(part.get("snapshot")) for part in record.get("data") or [])
    code = f"git clone {shlex.quote(str(git.get('remote')))} . && git checkout {shlex.quote(str(git.get('commit')))}"
    found = [("The code", code)] if git.get("remote") and git.get("commit") else []
    found += [
        (f"Is the data still what it was? ({name})", shlex.join(["vlmrecipes", "snapshots", "verify", name]))
        for name in names
    ]
    if record.get("status") == "complete":
        told = "All of it at once: data and plan checked, run again, scores judged"
        found += [(told, f"vlmrecipes runs reproduce {shlex.quote(run)}")]
    if command := reproduce(record):
        found += [("The run again, from the folder that it was run in", command)]
        found += [
            ("The new run held against this one, sample by sample", f"vlmrecipes compare {shlex.quote(run)} latest")
        ]
    if record.get("metrics"):
        found += [
            ("The scores again from the stored predictions, bit for bit", f"vlmrecipes runs rescore {shlex.quote(run)}")
        ]
    return [*found, ("Seal, inputs, environment and scores", f"vlmrecipes runs verify {shlex.quote(run)}")]


def reproduce(record: Mapping[str, Any]) -> str:
    """Return the command line as it was given, with the snapshots it stood for pinned; empty when none was recorded."""
    words = [str(word) for word in record.get("command") or []]
    given = {word.removeprefix("--data=").partition("=")[0] for word in words if "=" in word}
    roles: dict[str, list[str]] = {}
    for part in record.get("data") or []:
        roles.setdefault(str(part.get("role")), []).append(str(part.get("snapshot")))
    train = roles.get("train")
    for role, snapshots in roles.items():
        # A mixture is pinned in its recipe, and the eval side of the training snapshot needs no pin of its own.
        if len(snapshots) == 1 and role not in given and (role == "train" or snapshots != train):
            words += ["--data", f"{role}={snapshots[0]}"] if words else []
    return shlex.join(words)
