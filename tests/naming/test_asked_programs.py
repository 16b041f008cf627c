"""Programs and endpoints that are asked for names: their input, their answers, and their failures."""

import json
import shlex
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from selavi_ref.naming.program import ask_program
from selavi_ref.naming.proposals import Proposal
from tests.support.refusal import refused

FACTS = {"cluster": 3, "examples": ["/videos/caf\u00e9.mp4"]}


def program(code):
    return shlex.join([sys.executable, "-S", "-c", code])


@pytest.mark.parametrize(
    ("code", "answer"),
    [
        ("import json, sys; print(json.load(sys.stdin)['cluster'])", Proposal("3", None, "program")),
        ("print('  two  words\\nand an explanation')", Proposal("two words", None, "program")),
        ('print(\'{"name": "cat", "score": 0.5}\')', Proposal("cat", 0.5, "program")),
        ('print(\'{"name": "cat"}\')', Proposal("cat", None, "program")),
        ("print()", None),
        ("print('{\"name\": null}')", None),
    ],
)
def test_answers_of_a_program(code, answer):
    assert ask_program(program(code), FACTS) == answer


@pytest.mark.parametrize(
    "command",
    [
        "no-such-program-anywhere",
        "unclosed 'quote",
        "  ",
        program("import sys; sys.exit('no key\\nfor the model')"),
        program("print('{\"name\": 3}')"),
        program('print(\'{"name": "cat", "score": 7}\')'),
        program("print('{damaged')"),
        "http://127.0.0.1:9/name",
        "http://[/name",
    ],
)
def test_a_program_that_fails_is_named(command):
    with refused(option="command", value=command):
        ask_program(command, FACTS)


def test_a_program_that_takes_too_long_is_ended():
    started = time.monotonic()
    with refused(option="command"):
        ask_program(program("import time; time.sleep(60)"), FACTS, seconds=0.3)
    assert time.monotonic() - started < 20


@pytest.fixture
def endpoint():
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            facts = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/slow":
                time.sleep(1)
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"name": f"cluster of {facts['examples'][0]}", "score": 1}).encode())

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_an_endpoint_is_asked(endpoint):
    assert ask_program(endpoint, FACTS) == Proposal("cluster of /videos/caf\u00e9.mp4", 1.0, "program")
    for path in ("/broken", "/slow"):
        with refused(option="command", value=endpoint + path):
            ask_program(endpoint + path, FACTS, seconds=0.2)
