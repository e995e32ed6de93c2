"""A server of the OpenAI-compatible protocol that answers, and fails, as a test says; nothing but the standard library.

    with FaultServer(answer) as server: ... server.url ... server.bodies

`answer(path, body, number)` gets the JSON body of the number-th request, from 0, and returns what the server sends: a
JSON value, (status, JSON value, headers), raw bytes in place of JSON, or CUT: half an answer, then the line drops.
"""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CUT = object()
Answer = Callable[[str, Any, int], Any]


def completion(*texts: str, prompt_tokens: int | None = None) -> dict:
    """What /completions answers with."""
    usage = {} if prompt_tokens is None else {"usage": {"prompt_tokens": prompt_tokens, "completion_tokens": 2}}
    return {"choices": [{"index": i, "text": text} for i, text in enumerate(texts)], **usage}


def chat(*texts: str | None, usage: dict | None = None) -> dict:
    """What /chat/completions answers with."""
    choices = [{"index": i, "message": {"role": "assistant", "content": text}} for i, text in enumerate(texts)]
    return {"choices": choices, **({"usage": usage} if usage else {})}


class FaultServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, answer: Answer, port: int = 0):
        super().__init__(("127.0.0.1", port), _Handler)
        self.answer = answer
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.models_status = 200
        self.asked: list[str] = []  # paths that were got
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        scheme = "https" if hasattr(self.socket, "context") else "http"
        return f"{scheme}://localhost:{self.server_address[1]}/v1"

    def __enter__(self) -> "FaultServer":
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultServer

    def log_message(self, *words: object) -> None:
        """Says nothing."""

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        self.server.asked.append(self.path)
        self._send(self.server.models_status, json.dumps({"data": []}).encode(), {})

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.bodies)
            self.server.bodies.append(body)
            self.server.headers.append(dict(self.headers))
        found = self.server.answer(self.path.removeprefix("/v1/"), body, number)
        if found is CUT:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"te')
            self.close_connection = True
            return
        status, value, headers = found if isinstance(found, tuple) else (200, found, {})
        self._send(status, value if isinstance(value, bytes) else json.dumps(value).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
