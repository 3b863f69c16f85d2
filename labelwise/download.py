"""Download: a file over https into place, whole or not at all, with limits.

Every function here raises ValueError; its caller names what was wanted and chooses the exception.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from labelwise import __version__
from labelwise.files import write_file

PATIENCE = 10.0  # seconds without an answer
PIECE = 2**20  # bytes


def download(
    url: str, file: Path, *, largest: int, digest: str = "", private: bool = False
) -> None:
    """Fetch a file; nothing is there, or what was there before, if that fails.

    Args:
        largest: bytes at most.
        digest: first digits of the SHA-256 that the bytes must have.
        private: also plain http, and addresses of this machine or its network: a mirror of one's
            own. Not even a redirect leads there otherwise.

    Raises:
        ValueError: says what is wrong, and with which address.
    """
    _check_scheme(url, private)
    handlers = [] if private else [_Public(), _Redirects()]
    request = urllib.request.Request(url, headers={"User-Agent": f"labelwise/{__version__}"})
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=PATIENCE) as answer:
            write_file(file, lambda out: _copy(answer, out, largest, digest))
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"{url} answers {error.code} ({error.reason}).") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"{url} cannot be reached ({reason}).") from None


def _copy(answer: Any, out: IO[bytes], largest: int, digest: str) -> None:
    promised = int(answer.headers.get("Content-Length") or -1)
    if promised > largest:
        raise ValueError(f"{answer.url} has {promised} bytes; expected {largest} at most.")
    found, size = hashlib.sha256(), 0
    while piece := answer.read(PIECE):
        size += len(piece)
        if size > largest:
            raise ValueError(f"{answer.url} does not end after {largest} bytes.")
        found.update(piece)
        out.write(piece)
    if promised not in (-1, size):
        raise ValueError(f"{answer.url} broke off after {size} of {promised} bytes. Try again.")
    if not found.hexdigest().startswith(digest):
        raise ValueError(
            f"{answer.url} has SHA-256 {found.hexdigest()}, expected one that begins with {digest}."
        )


def _check_scheme(url: str, private: bool) -> None:
    allowed = ("https://", "http://") if private else ("https://",)
    if not url.lower().startswith(allowed):
        raise ValueError(f"{url} is not an address that begins with {allowed[0]}.")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str
    ) -> Any:
        _check_scheme(newurl, private=False)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Public(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_PublicConnection, req)


class _PublicConnection(http.client.HTTPSConnection):
    """Refuses to speak to a private address: looked up once, the name cannot change its mind."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._create_connection = _connect_public

    def set_tunnel(self, *arguments: Any, **options: Any) -> None:
        # A proxy is what the user has set, wherever it stands, and connects by rules of its own.
        super().set_tunnel(*arguments, **options)
        self._create_connection = socket.create_connection


def _connect_public(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
    found = socket.create_connection(address, *arguments, **options)
    peer = ipaddress.ip_address(found.getpeername()[0].partition("%")[0])
    mapped = getattr(peer, "ipv4_mapped", None) or peer
    if mapped.is_global:
        return found
    found.close()
    raise ValueError(f"{address[0]} leads to {peer}, which is no public address.")
