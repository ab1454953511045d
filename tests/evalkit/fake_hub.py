"""A hub on this machine: a real HTTP server with the part of the hub's interface that downloads use."""

import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """The part of the hub's interface that downloads use; it can damage a file, or break off in the middle of one."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.root = root
        self.damaged: set[str] = set()
        self.broken: set[str] = set()
        self.sent: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def add(self, name: str, content: bytes) -> None:
        """Offer a file, called OWNER/REPOSITORY/PATH."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        info = re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/?]+)?(\?.*)?", self.path)
        tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/[^/?]+(\?.*)?", self.path)
        file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", self.path)
        if info:
            folder = self.server.root / info[1]
            names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
            self._send(
                json.dumps({"id": info[1], "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}).encode(),
                {},
                body,
            )
        elif tree:
            folder = self.server.root / tree[1]
            listed = [
                {
                    "type": "file", "path": path.relative_to(folder).as_posix(), "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(),
                }
                for path in sorted(folder.rglob("*")) if path.is_file()
            ]  # fmt: skip
            self._send(json.dumps(listed).encode(), {}, body)
        elif file and (self.server.root / file[1] / file[2]).is_file():
            name = f"{file[1]}/{file[2]}"
            data = (self.server.root / name).read_bytes()
            etag = f'"{hashlib.sha256(data).hexdigest()}"'
            if name in self.server.damaged:
                data = data[:-1] + bytes([data[-1] ^ 1])
            if body:
                self.server.sent.append(name)
            self._send(
                data, {"ETag": etag, "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}, body, name in self.server.broken
            )
        else:
            self.send_response(200 if self.path == "/" else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _send(self, data: bytes, headers: dict[str, str], body: bool, broken: bool = False) -> None:
        start = int(match[1]) if (match := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        self.send_response(206 if start else 200)
        for name, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if body:
            self.wfile.write(data[start : start + len(data) // 2] if broken else data[start:])
            self.close_connection = broken

    def log_message(self, *_: object) -> None:
        """Say nothing."""
