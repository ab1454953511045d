"""The nginx configuration of docs/deploy.md, run by a real nginx in front of a real study server."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runs import make_run
from tests.study_app.test_deploy import REPOSITORY, answers

SETTINGS = (REPOSITORY / "docs" / "deploy.md").read_text().split("```nginx\n", 1)[1].split("```", 1)[0]
SITE = "study.example.org"
PATIENCE = 60


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.terminate()


def local_settings(folder: Path, port: int, upstream: int) -> Path:
    """Write the documented configuration with this test's ports, certificate and log, nothing else changed."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={SITE}",
         "-addext", f"subjectAltName=DNS:{SITE}", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    text = SETTINGS
    for documented, local in (
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        (f"/etc/letsencrypt/live/{SITE}/fullchain.pem", str(certificate)),
        (f"/etc/letsencrypt/live/{SITE}/privkey.pem", str(key)),
        ("/var/log/nginx/study.log", str(folder / "study.log")),
        ("http://127.0.0.1:8501", f"http://127.0.0.1:{upstream}"),
    ):
        assert text.count(documented) == 1, documented
        text = text.replace(documented, local)
    bodies = "\n".join(f"{kind}_temp_path {folder / kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file = folder / "nginx.conf"
    file.write_text(f"daemon off; pid {folder / 'pid'};\nevents {{}}\nhttp {{\n{bodies}\n{text}\n}}\n")
    return file


@contextmanager
def connected(port: int, certificate: Path) -> Iterator[ssl.SSLSocket]:
    context = ssl.create_default_context(cafile=str(certificate))
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
        with context.wrap_socket(plain, server_hostname=SITE) as secure:
            yield secure


def exchange(port: int, certificate: Path, request: str, *headers: str) -> str:
    """Return the head of an answer, status line and headers."""
    with connected(port, certificate) as secure:
        secure.sendall("\r\n".join((f"{request} HTTP/1.1", f"Host: {SITE}", *headers, "", "")).encode())
        received = b""
        while b"\r\n\r\n" not in received and (part := secure.recv(65536)):
            received += part
    return received.split(b"\r\n\r\n")[0].decode()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_the_documented_configuration_of_nginx_serves_a_study(tmp_path: Path) -> None:
    run, port, upstream = tmp_path / "run", free_port(), free_port()
    make_run(run, arms=("plain", "fancy"), scores=False)
    settings, certificate = local_settings(tmp_path, port, upstream), tmp_path / "cert.pem"
    command = (sys.executable, "-c", "from evalkit.cli.main import main; main()", "study", "serve", str(run))
    log = str(tmp_path / "error.log")
    nginx = ("nginx", "-e", log, "-p", str(tmp_path), "-c", str(settings))
    # nginx as root hands its work to another user, who must reach the folder
    os.chmod(tmp_path, 0o755)
    with running(*command, "--port", str(upstream)) as server, running(*nginx) as proxy:
        end = time.monotonic() + PATIENCE
        while not answers(f"http://127.0.0.1:{upstream}/healthz") and time.monotonic() < end:
            assert server.poll() is None
            time.sleep(0.2)
        assert proxy.poll() is None, Path(log).read_text()
        joined = exchange(port, certificate, "GET /join?PROLIFIC_PID=5f1e0a7b9c3d")
        assert joined.splitlines()[0].split()[1] == "303", joined
        # the proxy tells the server of TLS
        assert re.search(r"(?im)^set-cookie: .*\bsecure\b", joined), joined
        page = exchange(port, certificate, "GET /")
        assert "strict-transport-security: max-age=31536000" in page.lower()
        for head in (joined, page):
            assert re.findall(r"(?im)^server: (.*?)\r?$", head) == ["nginx"], "a header tells a version"
        assert exchange(port, certificate, "GET /_stcore/metrics").split()[1] == "404"
        too_much = exchange(port, certificate, "POST /join", f"Content-Length: {2**20 + 1}")
        assert too_much.split()[1] == "413"
        upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", f"Origin: https://{SITE}")
        opened = exchange(port, certificate, "GET /_stcore/stream", *upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
        assert opened.split()[1] == "101", opened
        with connected(port, certificate) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
            started = time.monotonic()
            # half a request is cut off
            assert slow.recv(1024) == b""
            assert 5 < time.monotonic() - started < 30
        written = (tmp_path / "study.log").read_text()
    assert "/join" in written
    assert "5f1e0a7b9c3d" not in written
