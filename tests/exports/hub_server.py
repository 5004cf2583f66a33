"""A server that speaks the part of the Hugging Face hub's API that an upload uses, and keeps what it is sent."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"
COMMIT = "c" * 40


@dataclass
class Hub:
    """Its repositories: name → path → bytes."""

    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    full: bool = False
    """It takes no more."""
    url: str = ""

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/api/whoami-v2":
            return 200, {"name": "me", "type": "user", "auth": {}}
        name, _, _ = path.removeprefix("/api/models/").partition("/tree/")
        if name not in self.repos:
            return 404, {"error": "Repository not found"}
        return 200, [
            {"type": "file", "path": file, "size": len(data), "oid": "0" * 40}
            for file, data in self.repos[name].items()
        ]

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.repos.setdefault(name, {})
            self.private[name] = asked.get("private", asked.get("visibility") == "private")
            return 200, {"url": f"{self.url}/{name}", "name": name, "id": "1"}
        owner, repo, verb = [*path.removeprefix("/api/models/").split("/"), "", ""][:3]
        name = f"{owner}/{repo}"
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if verb == "preupload":
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, {"files": files}
        return self.commit(name, [json.loads(line) for line in body.splitlines()])

    def commit(self, name: str, lines: list[dict[str, Any]]) -> tuple[int, Any]:
        if self.full:
            return 507, {"error": "no space left for you"}
        for line in lines:
            value = line["value"]
            if line["key"] == "deletedFile":
                del self.repos[name][value["path"]]
            elif line["key"] == "file":
                self.repos[name][value["path"]] = base64.b64decode(value["content"])
        return 200, {"commitOid": COMMIT, "commitUrl": f"{self.url}/{name}/commit/{COMMIT}"}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Let `hub` listen on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(*hub.get(self.path.partition("?")[0]))

        def do_POST(self) -> None:
            length = self.headers["Content-Length"]
            body = self.rfile.read(int(length)) if length else b"".join(self.chunks())
            self.reply(*hub.post(self.path.partition("?")[0], body))

        def chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def reply(self, status: int, told: Any) -> None:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                status, told = 401, {"error": "Invalid user token"}
            body = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        hub.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield hub
        finally:
            server.shutdown()
