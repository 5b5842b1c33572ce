"""The Ray cluster of this process: the one it is connected to, else one for as long as it is needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def connected(num_cpus: int | None) -> Iterator[Any]:
    """The module ``ray``, connected: to the cluster of RAY_ADDRESS, or to one on this machine of so many CPUs (None: all).

    Raises ValueError where Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("work on a Ray cluster needs ray: pip install 'openk2[ray]'") from error
    started = not ray.is_initialized()
    if started:
        cpus = None if "RAY_ADDRESS" in os.environ else num_cpus  # a cluster that is there has its own
        ray.init(num_cpus=cpus, log_to_driver=False, configure_logging=False)
    try:
        yield ray
    finally:
        if started:
            ray.shutdown()
