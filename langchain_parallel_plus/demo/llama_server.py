"""The process that serves the embedded model; started by file name, so that it imports nothing of this package.

It reads its settings as one JSON line from standard input, prints the server's address as one line, and serves until
standard input closes: however the demo ends, its server ends with it. A process of its own because the server is native
code: its logs, its threads and a crash on an unusual processor stay out of the demo's.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from typing import Any

__all__ = ("main",)

_SECONDS_TO_START = 60.0
_MOST_THREADS = 8
"""A model of this size gets no faster with more."""


def main() -> None:
    """Serve as the settings say until standard input closes."""
    settings = json.loads(sys.stdin.readline())
    faulthandler.dump_traceback_later(_SECONDS_TO_START, exit=True)
    server = _server(settings)
    faulthandler.cancel_dump_traceback_later()
    print(server.listening_address, flush=True)
    sys.stdin.read()
    sys.stdout.flush()
    os._exit(0)  # the native server would finish the answers that nobody waits for any more


def _server(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["weights"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["api_key"]]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["slots"] * settings["context"]
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = min(_cores(), _MOST_THREADS)
    params.n_gpu_layers = 0
    params.fit_params = False
    params.warmup = False
    params.cache_ram_mib = 0
    params.endpoint_slots = False
    params.ui = False
    params.verbosity = -1
    return xllamacpp.Server(params)


def _cores() -> int:
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


if __name__ == "__main__":
    main()
