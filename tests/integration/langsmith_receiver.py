"""LangSmith's API as small as can be: the runs that a real client sends, put together as the service does."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import zstandard
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import Client

Transport = Literal["multipart", "zstd", "json"]

# The client's background thread ends with a KeyError if one of these is missing, and `flush` then waits for ever.
_INGEST = {
    "use_multipart_endpoint": True,
    "scale_up_qsize_trigger": 1000,
    "scale_up_nthreads_limit": 4,
    "scale_down_nempty_trigger": 4,
    "size_limit": 100,
    "size_limit_bytes": 20_000_000,
}


class Runs:
    """The runs that have come in, by id."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.by_id: dict[str, dict[str, Any]] = {}
        self.repeated: list[str] = []
        """Names of the runs that were ended twice."""
        self._lock = threading.Lock()

    def take(self, run_id: str, facts: dict[str, Any]) -> None:
        with self._lock:
            known = self.by_id.setdefault(run_id, {})
            if "end_time" in known and "end_time" in facts:
                self.repeated.append(known["name"])
            known.update({name: value for name, value in facts.items() if value is not None})

    @property
    def pending(self) -> list[str]:
        """Names of the runs that have not ended."""
        return [run["name"] for run in self.by_id.values() if run.get("end_time") is None]

    def named(self, name: str) -> list[dict[str, Any]]:
        found = [run for run in self.by_id.values() if run["name"] == name]
        return sorted(found, key=lambda run: run["start_time"])

    def run(self, name: str) -> dict[str, Any]:
        [one] = self.named(name)
        return one

    def tree(self) -> list[Any]:
        """What the service shows, without ids and times; siblings in the order of their names."""
        inside: dict[str | None, list[dict[str, Any]]] = {}
        for run in self.by_id.values():
            inside.setdefault(run.get("parent_run_id"), []).append(run)

        def below(run_id: str | None) -> list[Any]:
            rows = [
                (
                    run["name"],
                    run["run_type"],
                    sorted(run.get("tags") or ()),
                    run.get("inputs"),
                    run.get("outputs"),
                    run.get("error") is not None,
                    below(run["id"]),
                )
                for run in inside.get(run_id, [])
            ]
            return sorted(rows, key=str)

        return below(None)


def metadata(run: dict[str, Any]) -> dict[str, Any]:
    """Ours of a run's metadata."""
    return {name: value for name, value in run["extra"]["metadata"].items() if name.startswith("lcpp_")}


def events(run: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [event for event in run.get("events") or () if event["name"] == name]


class _Handler(BaseHTTPRequestHandler):
    runs: Runs
    transport: Transport

    def do_GET(self) -> None:
        zstd = {"zstd_compression_enabled": self.transport == "zstd"}
        self._answer({"version": "0.12.0", "instance_flags": zstd, "batch_ingest_config": _INGEST})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/multipart"):
            self._take_parts(body)
        else:
            facts = json.loads(body)
            self.runs.take(facts["id"], facts)
        self._answer({})

    def do_PATCH(self) -> None:
        self.runs.take(self.path.rpartition("/")[2], json.loads(self._body()))
        self._answer({})

    def _take_parts(self, body: bytes) -> None:
        boundary = re.search("boundary=([^;]+)", self.headers["content-type"])
        assert boundary is not None
        for part in body.split(b"--" + boundary[1].strip('"').encode())[1:-1]:
            head, _, content = part.partition(b"\r\n\r\n")
            name = re.search(rb'name="([^"]+)"', head)
            assert name is not None
            _, run_id, *field = name[1].decode().split(".")
            value = json.loads(content.rstrip(b"\r\n"))
            self.runs.take(run_id, {field[0]: value} if field else value)

    def _body(self) -> bytes:
        if "chunked" in (self.headers["transfer-encoding"] or ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers["content-encoding"] == "zstd":
            body = zstandard.ZstdDecompressor().stream_reader(body).read()
        return body

    def _answer(self, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


class LangSmith:
    """The service and a client of it."""

    def __init__(self, runs: Runs, transport: Transport) -> None:
        self.runs = runs
        self.client = Client(api_url=runs.endpoint, api_key="x", auto_batch_tracing=transport != "json")

    def config(self) -> dict[str, Any]:
        """The config of a traced run."""
        return {"callbacks": [LangChainTracer(client=self.client)]}

    def sent(self) -> Runs:
        """The runs, once all of them are there."""
        self.client.flush()
        return self.runs


@contextmanager
def langsmith(transport: Transport = "json") -> Iterator[LangSmith]:
    """Run the service on a free port of this machine."""
    runs = Runs()
    handler = type("Handler", (_Handler,), {"runs": runs, "transport": transport})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    runs.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    service = LangSmith(runs, transport)
    try:
        yield service
    finally:
        service.client.cleanup()
        service.client.session.close()
        server.shutdown()
        server.server_close()
        thread.join()
