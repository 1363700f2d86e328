"""The studio's socket and event loop. Not here: the application (`app.py`), the command (`cli/studio.py`)."""

from __future__ import annotations

import secrets
import socket
from ipaddress import ip_address

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tapegpt.errors import TapeGPTError, argument
from tapegpt.ranges import Instance
from tapegpt.studio.app import application
from tapegpt.studio.limits import PORTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio

    from tapegpt.studio.studio import Studio

HEAD_SECONDS = 15.0  # for the head of a request to come
CONNECTIONS = 900  # below what a process may have open as a rule, 1024
GRACE_SECONDS = 1  # for responses under way, when the server is to end


class Server:
    """A studio bound to an address; raises `TapeGPTError` where that is unavailable. Port 0 is any free one."""

    def __init__(self, studio: Studio, host: str, port: int) -> None:
        self._socket = bind(host, port)
        self._host, self._port = self._socket.getsockname()[:2]
        self.token = None if ip_address(self._host).is_loopback else secrets.token_urlsafe(32)
        name = host if host and not ip_address(self._host).is_unspecified else socket.gethostname()
        self.address = f"http://{f'[{name}]' if ':' in name else name}:{self._port}/"
        if self.token is not None:
            self.address += f"?token={self.token}"
        config = uvicorn.Config(
            application(studio, name, self.token),
            http=Protocol,
            ws="none",
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until Ctrl-C, SIGTERM or `stop`."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, from another thread."""
        self._server.should_exit = True


class Protocol(H11Protocol):
    """HTTP/1.1 with a time limit for the head of a request: uvicorn itself would wait forever."""

    _answered: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Send small responses at once, and start the timer."""
        super().connection_made(transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else 40 ms more
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        is_answering = self.cycle is not None and not self.cycle.response_complete
        if not is_answering and self._answered is self.cycle:
            self.transport.close()
            return
        self._answered = self.cycle
        self._watch = self.loop.call_later(HEAD_SECONDS, self._look)


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens at this address."""
    Instance(str).check("host", host)
    PORTS.check("port", port)  # which the system would take modulo 65,536
    try:
        kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=kind, backlog=2048)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TapeGPTError(
            f"{host}:{port} cannot be listened at: {reason}: choose another {argument('port')}, 0 for a free one, or "
            f"{argument('host')}"
        ) from None
