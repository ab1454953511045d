"""The endpoint of a judge: its checked address, the consent to send images there, and its key from the environment."""

import ipaddress
import os
from dataclasses import dataclass
from urllib.parse import urlsplit

from evalkit.errors import UserError

KEY_VARIABLE = "EVALKIT_JUDGE_KEY"


@dataclass(frozen=True)
class Endpoint:
    """Base URL of an OpenAI-compatible server, without user, password and query; `key` is never stored or printed."""

    url: str
    host: str
    key: str | None

    def __repr__(self) -> str:
        return f"Endpoint({self.url!r})"

    @property
    def is_loopback(self) -> bool:
        """Return whether what is sent there stays on this machine."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("192.0.2.7")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_endpoint(url: str, consent: str | None, may_leave: bool, key_variable: str = KEY_VARIABLE) -> Endpoint:
    """Return the endpoint if images may be sent there.

    Args:
        url: base URL such as `http://127.0.0.1:8000/v1`.
        consent: the host that images may be sent to, of `--send-images-to`; this machine needs none.
        may_leave: whether the study's design lets images leave this machine.
        key_variable: environment variable that holds the key.

    Raises:
        UserError: the URL is not http or https or holds a secret, the consent is missing or names another host, the design
            forbids it, or the key is missing or would be sent unencrypted.
    """
    where = "--endpoint"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(f"{where}: is not a URL ({error}); write for example http://127.0.0.1:8000/v1") from None
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise UserError(f"{where}: is not an http or https URL; write for example http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(f"{where}: holds a user, key or query; give the base URL alone and the key in {key_variable}")
    shown = f"[{host}]" if ":" in host else host
    clean = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path.rstrip('/').removesuffix('/chat/completions')}"
    endpoint = Endpoint(clean, host, os.environ.get(key_variable) or None)
    if endpoint.is_loopback:
        return endpoint
    if not may_leave:
        raise UserError(f"{where}: study.toml sets images_may_leave = false, so no image goes to {host}; use a local server")
    if consent is None:
        raise UserError(
            f"{where}: {host} is another machine, and the study's images and references would be sent there; "
            f"if they may be, add --send-images-to {host}"
        )
    if consent != host:
        raise UserError(f"--send-images-to {consent}: the endpoint's host is {host}; name that one if images may go there")
    if parts.scheme == "http" and endpoint.key is not None:
        raise UserError(f"{where}: http would send the key to {host} unencrypted; use https, or unset {key_variable}")
    # a server in the same building often has neither key nor certificate; a hosted one always has both
    if parts.scheme == "https" and endpoint.key is None:
        raise UserError(f"{where}: {host} needs a key; set the environment variable {key_variable}")
    return endpoint
