"""A machine without our caches and without models of the user; a server on this machine; tiny pickled models."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ase.build import bulk

from mace_ft_bench.download import CACHE_VARIABLE
from mace_ft_bench.zoo import checkpoint, conversion
from mace_ft_bench.zoo.conversion import Facts
from mace_ft_bench.zoo.user import MODELS_VARIABLE


def rattled():
    """Return a small structure of both elements of the tiny models."""
    atoms = bulk("Mo", cubic=True) * (2, 1, 1)
    atoms.symbols[1] = "Si"
    atoms.rattle(0.1, seed=5)
    return atoms


@pytest.fixture(autouse=True)
def bare_machine(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("machine")
    monkeypatch.setenv(CACHE_VARIABLE, str(folder / "cache"))
    monkeypatch.setenv(MODELS_VARIABLE, str(folder / "models"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return folder


@pytest.fixture(scope="session")
def tiny_pickle(tiny_file, tmp_path_factory):
    """Return the tiny model in mace's own pickled form."""
    path = tmp_path_factory.mktemp("pickles") / "tiny.model"
    checkpoint.save_mace_model(checkpoint.load_checkpoint(tiny_file), path)
    return path


class Server(ThreadingHTTPServer):
    """Serves one body at every address; counts the requests."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.status, self.announced, self.requests = b"", 200, None, 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/releases/tiny.model?raw=true"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.announced or len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_arguments):
        """Say nothing."""


@pytest.fixture
def server(tiny_pickle):
    with Server() as running:
        running.body = tiny_pickle.read_bytes()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def quick(tiny_file, monkeypatch):
    """Replace the conversion by a copy of what it would write; return the sources it was asked for."""
    asked = []

    def copy(source, target):
        asked.append(source)
        shutil.copyfile(tiny_file, target)
        return Facts(("Si", "Mo"), ("Default",), 7, "tiny", {"Si": -1.25, "Mo": -2.5})

    monkeypatch.setattr(conversion, "convert", copy)
    return asked
