"""A real local HTTP server that answers as a vision-language model would, by looking at the bytes of the images it gets.

Its preference is planted: the brighter image wins with `accuracy`, and with `position` the first one wins whatever it shows.
Draws are a function of the images' bytes, so equal requests get equal answers, whatever the order of arrival.
"""

import base64
import hashlib
import io
import json
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image as PILImage

PREFIX = "data:image/png;base64,"


@dataclass
class Planted:
    """How the model answers, and what it has seen."""

    accuracy: float = 1.0
    position: float = 0.0
    refusal: float = 0.0
    # of first attempts: too many requests, server error, cut connection, slow, malformed
    failures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    # answers every request with this status or text
    status: int | None = None
    text: str | None = None
    schema: bool = True
    sees: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    bodies: list[dict] = field(default_factory=list)
    answered: Counter = field(default_factory=Counter)
    attempts: Counter = field(default_factory=Counter)
    authorization: list[str | None] = field(default_factory=list)
    # never more than this many at once
    most_in_flight: int = 0
    in_flight: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def images_in(body: dict) -> list[bytes]:
    parts = [part for message in body["messages"] for part in message["content"]]
    return [base64.b64decode(part["image_url"]["url"].removeprefix(PREFIX)) for part in parts if part["type"] == "image_url"]


def texts_in(body: dict) -> list[str]:
    return [part["text"] for message in body["messages"] for part in message["content"] if part["type"] == "text"]


def brightness(png: bytes) -> float:
    return float(np.asarray(PILImage.open(io.BytesIO(png)).convert("RGB"), float).mean())


def share(*parts: bytes | str) -> float:
    """Return a number in [0, 1) that is a function of `parts` alone."""
    joined = b"|".join(part.encode() if isinstance(part, str) else hashlib.sha256(part).digest() for part in parts)
    return int.from_bytes(hashlib.sha256(joined).digest()[:7]) / 2**56


def label(planted: Planted, body: dict) -> str:
    images = images_in(body)
    if not images:
        return "50" if "rate one image" in texts_in(body)[0] else "1"
    if "rate one image" in texts_in(body)[0]:
        return str(round(brightness(images[-1]) / 255 * 100))
    if "on the left" in " ".join(texts_in(body)):
        # one canvas: its halves
        whole = PILImage.open(io.BytesIO(images[-1])).convert("RGB")
        values = np.asarray(whole, float)
        half = (whole.width - 16) // 2
        light = [values[:, :half].mean(), values[:, -half:].mean()]
        return "1" if light[0] >= light[1] else "2"
    if len(images) < 2:
        return "1"
    first, second = images[-2:]
    pair = sorted([first, second], key=lambda png: hashlib.sha256(png).digest())
    if share("position", *pair) < planted.position:
        return "1"
    right = share("accuracy", *pair) < planted.accuracy
    return "1" if (brightness(first) >= brightness(second)) == right else "2"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    planted: Planted

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        planted = self.planted
        raw = self.rfile.read(int(self.headers["content-length"]))
        key = hashlib.sha256(raw).hexdigest()
        body = json.loads(raw)
        with planted.lock:
            planted.bodies.append(body)
            planted.authorization.append(self.headers.get("authorization"))
            planted.attempts[key] += 1
            planted.in_flight += 1
            planted.most_in_flight = max(planted.most_in_flight, planted.in_flight)
            attempt = planted.attempts[key]
        try:
            time.sleep(planted.seconds)
            self.answer(planted, body, key, attempt)
        finally:
            with planted.lock:
                planted.in_flight -= 1

    def answer(self, planted: Planted, body: dict, key: str, attempt: int) -> None:
        if planted.status is not None:
            return self.send(planted.status, {"error": {"message": "planted"}}, planted.headers)
        if "response_format" in body and not planted.schema:
            return self.send(422, {"detail": "unknown field response_format"})
        drawn = share("failure", key)
        for name, rate in planted.failures.items():
            if attempt == 1 and len(images_in(body)) > 1 and drawn < rate:
                return self.fail(name)
            drawn -= rate
        refuses = len(images_in(body)) > 1 and share("refusal", key) < planted.refusal
        text = label(planted, body) if planted.text is None else planted.text
        if "response_format" in body and planted.text is None:
            text = json.dumps({"answer": int(text) if "rate one image" in texts_in(body)[0] else text})
        message = {"content": None, "refusal": "I cannot help with that."} if refuses else {"content": text}
        tokens = sum(len(words) // 4 for words in texts_in(body)) + (9 * len(images_in(body)) if planted.sees else 0)
        with planted.lock:
            planted.answered[key] += 1
        self.send(
            200,
            {
                "model": body["model"], "system_fingerprint": "fp", "usage": {"prompt_tokens": tokens, "completion_tokens": 1},
                "choices": [{"message": message, "finish_reason": "stop"}],
            },
        )  # fmt: skip

    def fail(self, name: str) -> None:
        if name == "429":
            self.send(429, {"error": {"message": "slow down"}}, {"retry-after": "0.02"})
        elif name == "500":
            self.send(500, {"error": {"message": "planted"}}, {"connection": "close"})
        elif name == "slow":
            time.sleep(1.3)
            self.close_connection = True
        elif name == "malformed":
            self.send_bytes(200, b'{"choices": [{"mess')
        else:
            # cut in the middle of the headers
            self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-le")
            self.close_connection = True

    def send(self, status: int, content: dict, headers: dict[str, str] | None = None) -> None:
        self.send_bytes(status, json.dumps(content).encode(), headers)

    def send_bytes(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Keep silent about clients that were killed."""


@contextmanager
def serving(planted: Planted):
    """Yield the base URL of a server with this plan."""
    handler = type("PlantedHandler", (Handler,), {"planted": planted})
    server = QuietServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
