"""The content security policy of the studio's page, of which a server and a host of files need some more."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

BASE = {"default-src": "'self'", "base-uri": "'none'", "form-action": "'none'", "object-src": "'none'"}


def policy(more: Mapping[str, str]) -> str:
    """The policy with more directives, as a header or an element of the page has it."""
    return "; ".join([f"{name} {sources}" for name, sources in {**BASE, **more}.items()])
