"""What came from what: nodes, directed edges, and the chain of one run as its record tells it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KINDS = (
    "file",
    "source",
    "image",
    "sample",
    "snapshot",
    "recipe",
    "model",
    "plan",
    "run",
    "weights",
    "predictions",
    "prediction",
    "metric",
    "export",
)
"""The kinds of node, each after what it is made from."""


@dataclass(frozen=True, slots=True)
class Graph:
    """A directed graph without circles: edges lead from what was used to what was made."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By id: `{id, kind, label, …}`; an id is `kind:name`."""
    edges: dict[tuple[str, str], str] = field(default_factory=dict)
    """(from, to) → how."""

    def add(self, kind: str, name: str, label: str, **facts: Any) -> str:
        """Add a node, or facts to one that is there; return its id."""
        key = f"{kind}:{name}"
        known = {fact: value for fact, value in facts.items() if value is not None}
        self.nodes[key] = self.nodes.get(key, {}) | {"id": key, "kind": kind, "label": label} | known
        return key

    def link(self, source: str, target: str, how: str) -> None:
        """Add an edge between nodes; a second way is told beside the first."""
        there = self.edges.get((source, target), how)
        self.edges[source, target] = there if how in there.split(", ") else f"{there}, {how}"

    def before(self, starts: Iterable[str]) -> set[str]:
        """Return the nodes that `starts` were made from, directly or not, and they themselves."""
        return self._reached(starts, {(target, source) for source, target in self.edges})

    def after(self, starts: Iterable[str]) -> set[str]:
        """Return the nodes that were made from `starts`, directly or not, and they themselves."""
        return self._reached(starts, set(self.edges))

    @staticmethod
    def _reached(starts: Iterable[str], steps: set[tuple[str, str]]) -> set[str]:
        following: dict[str, list[str]] = {}
        for source, target in steps:
            following.setdefault(source, []).append(target)
        found, waiting = set(starts), list(starts)
        while waiting:
            fresh = [target for target in following.get(waiting.pop(), ()) if target not in found]
            found.update(fresh)
            waiting += fresh
        return found

    def part(self, kept: set[str]) -> Graph:
        """Return the graph of some of the nodes, and the edges between them."""
        return Graph(
            {key: node for key, node in self.nodes.items() if key in kept},
            {edge: how for edge, how in self.edges.items() if kept.issuperset(edge)},
        )

    def to_json(self) -> dict[str, Any]:
        """Return `{nodes, edges: [{from, to, how}]}`, ordered by kind and name: equal graphs give equal objects."""
        nodes = sorted(self.nodes.values(), key=lambda node: (KINDS.index(node["kind"]), node["id"]))
        edges = [{"from": source, "to": target, "how": how} for (source, target), how in sorted(self.edges.items())]
        return {"nodes": nodes, "edges": edges}


def add_run(graph: Graph, record: Mapping[str, Any], exports: Sequence[Mapping[str, Any]] = ()) -> str:
    """Add the chain of a run to the graph, from its data, recipe and model to its metrics and exports. Return the run's id."""
    name, recipe, model = record["run"], record["recipe"], record["model"]
    run = graph.add(
        "run", name, f"{record['kind']} {name}", run=name, status=record["status"], ended=record.get("ended")
    )
    plan = graph.add("plan", _short(record["plan"].get("fingerprint") or name), "plan", **record["plan"])
    graph.link(plan, run, "done as")
    for part in record["data"]:
        graph.link(add_snapshot(graph, part), plan, part["role"])
    if recipe.get("fingerprint"):
        told = {key: recipe.get(key) for key in ("version", "fingerprint", "source_sha256")}
        title = f"{recipe.get('name')} {recipe.get('version')}"
        graph.link(graph.add("recipe", _short(recipe["fingerprint"]), title, **told), plan, "asked for")
    if model.get("id"):
        at = f"{model['id']}@{model['revision']}" if model.get("revision") else model["id"]
        facts = {"revision": model.get("revision"), "files": model.get("files")}
        graph.link(graph.add("model", at, at, **facts), plan, "starts from")
    _add_parents(graph, record, run)
    _add_results(graph, record, run, exports)
    return run


def _add_parents(graph: Graph, record: Mapping[str, Any], run: str) -> None:
    for parent in record.get("parents") or ():
        other = parent["run"]
        if parent["as"] == "model":
            graph.link(graph.add("weights", other, f"weights of {other}", run=other), run, "scored")
        else:
            # Asked for again, not made from it: a fact of the run and no edge, or withdrawn data would never be gone.
            graph.nodes[run][f"{parent['as']}_of"] = other


def _add_results(graph: Graph, record: Mapping[str, Any], run: str, exports: Sequence[Mapping[str, Any]]) -> None:
    name, outputs = record["run"], {part["path"]: part["sha256"] for part in record.get("outputs") or ()}
    maker = run
    weights = {path: digest for path, digest in outputs.items() if path.startswith(("adapter/", "model/"))}
    if weights:
        maker = graph.add("weights", name, f"weights of {name}", run=name, files=weights)
        graph.link(run, maker, "trained")
    for number, entry in enumerate(exports):
        path = str(entry.get("path") or number)
        facts = {key: entry.get(key) for key in ("format", "path", "created", "sha256")}
        title = f"{entry.get('format') or 'export'} of {name}"
        graph.link(maker, graph.add("export", f"{name}/{path}", title, run=name, **facts), "exported as")
    if digest := outputs.get("predictions.parquet"):
        said = graph.add("predictions", name, f"predictions of {name}", run=name, sha256=digest)
        graph.link(maker, said, "generated")
        for key, told in _metrics(record):
            graph.link(said, graph.add("metric", f"{name}/{key}", _value(key, told), run=name, **told), "scored")


def _metrics(record: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for model, by_name in record["metrics"].items():
        for metric, told in by_name.items():
            yield f"{model}/{metric}", {key: told.get(key) for key in ("spec", "value", "low", "high", "n")}


def _value(key: str, told: Mapping[str, Any]) -> str:
    model, metric = key.split("/", 1)
    return f"{metric} of {model}: " + ("none" if told["value"] is None else f"{told['value']:.3f}")


def add_snapshot(graph: Graph, about: Mapping[str, Any]) -> str:
    """Add a snapshot and its sources, from its manifest or from what a record says of it. Return its id."""
    name = about["snapshot"]
    keys = ("fingerprint", "samples", "splits", "images", "rows", "license", "created", "parent")
    key = graph.add("snapshot", name, name, **{fact: about.get(fact) for fact in keys})
    for source in about.get("sources") or ():
        facts = {fact: value for fact, value in source.items() if fact not in ("source", "type")}
        title = f"{source['source']} ({source['type']})"
        graph.link(graph.add("source", f"{name}/{source['source']}", title, **facts), key, "read into")
    return key


def _short(fingerprint: str) -> str:
    return fingerprint.removeprefix("sha256:")[:16]
