"""A vLLM server as the receiving end: the four calls of its own weight transfer.

vLLM loads weights in place, so an update that fails midway leaves that server with a mixture: what is all or nothing
elsewhere here is not, and the error says so.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from openk2.engine.weights.parts import Part, dtype_name
from openk2.engine.weights.rounds import FAILURES, UpdateError, one_line


class WeightSync(Protocol):
    """The control calls of vLLM's weight transfer (its ``VLLMWeightSyncClient``)."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Open the channel, once; what it needs depends on the server's backend."""

    def start_weight_update(self) -> None:
        """Prepare for new weights."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive tensors; returns when they are loaded."""

    def finish_weight_update(self) -> None:
        """Serve them."""


class VllmServer:
    """``WeightSync`` over the HTTP routes of a vLLM server that runs with ``VLLM_SERVER_DEV_MODE=1``.

    Every call raises ConnectionError, naming route and server, when it is refused or not answered in time.
    """

    def __init__(self, base_url: str, time_limit: float = 300.0) -> None:
        self._base_url = base_url.rstrip("/")
        self._limit = time_limit

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Open the channel, once."""
        self._post("init_weight_transfer_engine", {"init_info": init_info})

    def start_weight_update(self) -> None:
        """Prepare for new weights."""
        self._post("start_weight_update", {})

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive tensors; returns when they are loaded."""
        self._post("update_weights", {"update_info": update_info})

    def finish_weight_update(self) -> None:
        """Serve them."""
        self._post("finish_weight_update", {})

    def _post(self, route: str, body: dict[str, Any]) -> None:
        url = f"{self._base_url}/{route}"
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self._limit):
                pass
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace").partition("\n")[0]
            raise ConnectionError(f"{url} answered {error.code}: {reason}") from None
        except OSError as error:
            raise ConnectionError(f"{url} gave no answer ({error})") from None


def update_vllm(server: WeightSync, parts: Sequence[Part], send: Callable[[Sequence[Part]], None]) -> None:
    """Start, transfer, finish: the server receives while ``send`` sends.

    Args:
        server: opened before with ``init_weight_transfer_engine``.
        parts: whole parameters under the names of the released checkpoint, which vLLM fuses and shards itself.
        send: broadcasts the parts in order over the channel that was opened (for vLLM's NCCL backend, one broadcast
            of each tensor from rank 0 of its communicator).

    Raises:
        ValueError: a part that is no whole parameter.
        UpdateError: a call or the sending failed; the server may hold a mixture and needs another update or a restart.
    """
    for part in parts:
        if tuple(part.tensor.shape) != part.shape or part.where:
            raise ValueError(f"{part.name}: vLLM takes whole parameters, this is a part of {part.shape}")
    info = {
        "names": [part.name for part in parts],
        "dtype_names": [dtype_name(part.tensor.dtype) for part in parts],
        "shapes": [list(part.shape) for part in parts],
    }
    try:
        server.start_weight_update()
        with ThreadPoolExecutor(1, "vllm") as beside:
            receiving = beside.submit(server.update_weights, info)
            send(parts)
            receiving.result()
        server.finish_weight_update()
    except FAILURES as error:
        raise UpdateError(f"vLLM may hold a mixture of versions: {one_line(error)}") from error
