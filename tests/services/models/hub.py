"""A Hugging Face Hub of one model on loopback: what huggingface_hub asks for when it downloads one. For tests."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "1" * 40


class Hub:
    """`asked` lists (file, first byte asked for). A file named in `held_after` stops after so many bytes until `go_on`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.asked: list[tuple[str, int]] = []
        self.held_after: dict[str, int] = {}
        self.is_held, self.go_on = threading.Event(), threading.Event()
        self.damaged: set[str] = set()
        self.endpoint = ""

    def info(self) -> bytes:
        siblings = []
        for file in sorted(self.folder.iterdir()):
            data = file.read_bytes()
            sibling = {"rfilename": file.name, "size": len(data), "blobId": hashlib.sha1(data).hexdigest()}
            if file.suffix == ".safetensors":
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
            siblings.append(sibling)
        return json.dumps({"id": self.name, "sha": COMMIT, "siblings": siblings, "tags": []}).encode()


@contextmanager
def hub(name: str, folder: Path) -> Iterator[Hub]:
    served = Hub(name, folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith("/api/models/"):
                return self.answer(200, served.info(), Content_Type="application/json")
            file = served.folder / path.rpartition("/")[2]
            if not path.startswith(f"/{served.name}/resolve/") or not file.is_file():
                return self.answer(404, b"", X_Error_Code="EntryNotFound")
            data = file.read_bytes()
            if file.name in served.damaged:
                data = bytes(len(data))
            begin = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            served.asked.append((file.name, begin))
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            held = served.held_after.get(file.name)
            self.wfile.write(data[begin:held])
            if held is not None and held > begin:
                self.wfile.flush()
                served.is_held.set()
                served.go_on.wait(30)
                self.wfile.write(data[held:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    served.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield served
    finally:
        served.go_on.set()
        server.shutdown()
        server.server_close()
