"""A cluster of Ray: one that runs, or one of this machine alone. Not here: what is done on it."""

from __future__ import annotations

import math
import os
import time

from tapegpt.errors import TapeGPTError, is_whole, missing, quote
from tapegpt.processes import cores

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, Self

LOCAL, AUTO = "local", "auto"
PATIENCE = 10.0  # seconds that a head may take to answer
SEEN = 1.0  # seconds after which it is looked again which machines there are


class Cluster:
    """While it is entered, this process is connected: to an address, or to a Ray of its own, "local".

    `num_cpus` are the cores that a local one is given, by default all; one that this process is connected to already is
    used, and left as it is. Raises `TapeGPTError` where Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str = LOCAL, num_cpus: int | None = None) -> None:
        if not isinstance(address, str) or not address:
            raise TapeGPTError(f"ray: an address is local, auto or HOST:PORT, not {quote(address)}")
        if num_cpus is not None and (address != LOCAL or not is_whole(num_cpus) or num_cpus < 1):
            raise TapeGPTError(
                f"ray: num_cpus are the cores of a local cluster, a whole number from 1 on, not {quote(num_cpus)}"
            )
        self._address, self._num_cpus = address, num_cpus
        self._is_mine = False
        self._sent: tuple[object, Any] = (None, None)
        self._seen: tuple[float, list[int]] = (-math.inf, [])  # when, cores of each machine

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
        try:
            import ray
        except ImportError:
            raise missing("ray", "ray") from None
        if not ray.is_initialized():
            about: dict[str, Any] = {"address": self._address, "logging_level": "ERROR", "log_to_driver": False}
            if self._address == LOCAL:
                about |= {"num_cpus": self._num_cpus or cores(), "include_dashboard": False}
            try:
                self._reach()
                ray.init(**about)
            except (ConnectionError, TimeoutError, RuntimeError, ValueError, OSError) as error:
                self._refuse(error)
            self._is_mine = True
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        self._sent, self._seen = (None, None), (-math.inf, [])
        if self._is_mine:
            ray.shutdown()
            self._is_mine = False

    def _reach(self) -> None:
        """Raise `OSError` or `ValueError` where nobody listens at an address, of which Ray is sure after minutes."""
        if self._address in (LOCAL, AUTO):
            return
        from socket import create_connection

        host, _, port = self._address.removeprefix("ray://").rpartition(":")
        create_connection((host, int(port)), PATIENCE).close()

    def _refuse(self, error: Exception) -> NoReturn:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TapeGPTError(
            f"ray {self._address}: no cluster answers there: {reason}: start one with ray start --head, or say local"
        ) from None

    def cores(self) -> int:
        """Of all machines that are in it now, at least one."""
        return max(sum(self._machines()), 1)

    def smallest(self) -> int:
        """Cores of the machine with the fewest, of those with any."""
        return min(self._machines(), default=1)

    def _machines(self) -> list[int]:
        import ray

        now = time.monotonic()
        if now - self._seen[0] >= SEEN:
            nodes = ray.nodes()  # type: ignore[no-untyped-call]  # it has no type hints
            counts = [int(node["Resources"].get("CPU", 0)) for node in nodes if node["Alive"]]
            self._seen = (now, [count for count in counts if count])
        return self._seen[1]

    def send(self, owner: object, value: object) -> Any:
        """A reference to a value in the object store, sent once as long as the owner is the same."""
        import ray

        if self._sent[0] is not owner:
            self._sent = (owner, ray.put(value))
        return self._sent[1]
