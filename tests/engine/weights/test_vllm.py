"""The vLLM adapter against a double of its HTTP routes.

The double is no vLLM: it answers as the source of vLLM's RLHF routes reads (bodies, status codes, the order it
insists on), over real HTTP. Nothing here shows that a GPU server takes the weights.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from openk2.engine.weights.parts import shard, whole
from openk2.engine.weights.rounds import UpdateError
from openk2.engine.weights.vllm import VllmServer, update_vllm

NEEDED = {"/init_weight_transfer_engine": "init_info", "/update_weights": "update_info"}


class Routes(BaseHTTPRequestHandler):
    """Counts what it is asked; 400 without the body's key, 409 for a second start."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        calls = self.server.calls
        key = NEEDED.get(self.path)
        if key is not None and key not in body:
            return self.answer(400, f"Missing '{key}' in request body")
        if self.path == "/start_weight_update" and self.server.updating:
            return self.answer(409, "start_weight_update called while a weight update is already in progress")
        if self.path == "/update_weights" and not self.server.sent.wait(5):
            return self.answer(500, "nothing came")
        self.server.updating = self.path in ("/start_weight_update", "/update_weights")
        calls.append((self.path, body.get(key)))
        return self.answer(200, "done")

    def answer(self, status: int, message: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"detail": message}).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def double():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Routes)
    server.calls, server.updating, server.sent = [], False, threading.Event()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(double) -> VllmServer:
    return VllmServer(f"http://127.0.0.1:{double.server_port}/", time_limit=10)


PARTS = whole({"a.weight": torch.zeros(3, 4).bfloat16(), "b": torch.zeros(())})


def test_the_server_receives_while_we_send(double, client):
    client.init_weight_transfer_engine({"world_size": 2})
    # The double's update only returns once something was sent: one after the other would wait for ever.
    update_vllm(client, PARTS, send=lambda parts: double.sent.set())
    info = {"names": ["a.weight", "b"], "dtype_names": ["bfloat16", "float32"], "shapes": [[3, 4], []]}
    assert double.calls == [
        ("/init_weight_transfer_engine", {"world_size": 2}),
        ("/start_weight_update", None),
        ("/update_weights", info),
        ("/finish_weight_update", None),
    ]


def test_what_the_server_refuses_is_said_with_its_own_words(double, client):
    client.start_weight_update()
    with pytest.raises(
        UpdateError, match=r"mixture of versions: .*/start_weight_update answered 409: .*already in prog"
    ):
        update_vllm(client, PARTS, send=lambda parts: None)


def test_sending_that_fails_is_an_update_that_fails(double, client):
    def send(_):
        double.sent.set()
        raise RuntimeError("the wire broke")

    with pytest.raises(UpdateError, match="the wire broke"):
        update_vllm(client, PARTS, send)
    assert "/finish_weight_update" not in [path for path, _ in double.calls]


def test_a_server_that_is_gone_is_named(double):
    gone = VllmServer("http://127.0.0.1:9", time_limit=1)
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9/start_weight_update gave no answer"):
        gone.start_weight_update()


def test_vllm_takes_whole_parameters(client):
    with pytest.raises(ValueError, match="w: vLLM takes whole parameters"):
        update_vllm(client, [shard("w", torch.zeros(2), 0, 2)], send=lambda parts: None)
