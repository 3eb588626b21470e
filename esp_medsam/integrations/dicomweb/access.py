"""Address and credentials of a PACS; secrets come from the environment or files."""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from requests.auth import AuthBase, HTTPBasicAuth
from requests.models import PreparedRequest

from esp_medsam.errors import OptionError, not_found, one_line
from esp_medsam.regular_file import open_regular


USER, PASSWORD, TOKEN = "ESP_MEDSAM_PACS_USER", "ESP_MEDSAM_PACS_PASSWORD", "ESP_MEDSAM_PACS_TOKEN"
"""Environment variables that hold a user name, the password, and a bearer token."""

_LONGEST_SECRET = 2**16
_LONGEST_KEY = 2**20


@dataclass(frozen=True, kw_only=True)
class Access:
    """Address and credentials of a PACS.

    Attributes:
        url: Base URL of its DICOMweb services, without a trailing slash.
        auth: Object that adds credentials to a request; None without credentials. Never shown.
        cert: Client certificate and key, PEM; the key may be in the certificate's file.
        ca_bundle: Certificates of the authorities to trust instead of the system's.
        warnings: What the user should know about the access.
    """

    url: str
    auth: AuthBase | None = field(default=None, repr=False)
    cert: tuple[str, str] | str | None = None
    ca_bundle: str | None = None
    warnings: tuple[str, ...] = ()


class BearerAuth(AuthBase):
    """Authentication that adds a bearer token to requests."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        """Add the token header to ``request``."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def read_access(
    url: str,
    *,
    password_file: Path | None = None,
    token_file: Path | None = None,
    client_cert: Path | None = None,
    client_key: Path | None = None,
    ca_bundle: Path | None = None,
    allow_http: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """Return the access to a PACS, refusing options that would expose a secret.

    Args:
        url: Base URL of the DICOMweb services.
        password_file: File with the password, instead of the environment's.
        token_file: File with the bearer token, instead of the environment's.
        client_cert: Client certificate, PEM.
        client_key: Its private key, PEM, not encrypted; None if it is in ``client_cert``.
        ca_bundle: Certificates to trust instead of the system's.
        allow_http: Whether credentials may travel unencrypted to another machine.
        environ: Environment with user, password and token.

    Raises:
        OptionError: If the URL is invalid or holds credentials; if a file is missing or holds
            something else; if credentials contradict each other, are incomplete, or would travel
            unencrypted.
    """
    parts = _checked_url(url)
    warnings: list[str] = []
    user = environ.get(USER) or None
    password = _secret(password_file, "password_file", warnings) or environ.get(PASSWORD) or None
    token = _secret(token_file, "token_file", warnings) or environ.get(TOKEN) or None
    auth = _auth(user, password, token)
    if client_key is not None and client_cert is None:
        msg = "client_key must come with client_cert; got the key alone."
        raise OptionError(msg)
    cert = None if client_cert is None else _file(client_cert, "client_cert")
    key = None if client_key is None else _file(client_key, "client_key")
    authorities = None if ca_bundle is None else _file(ca_bundle, "ca_bundle")
    _refuse_encrypted(key or cert, "client_key" if key else "client_cert")
    _check_pem(cert, key, authorities)
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        if auth is not None and not allow_http:
            msg = (
                f"url must begin with https where credentials go to another machine; got "
                f"{parts.geturl()}. Use https, or pass `allow_http` on a network you trust."
            )
            raise OptionError(msg)
        warnings.append(
            f"{parts.geturl()} is not encrypted: patients' data can be read on the way."
        )
    return Access(
        url=parts.geturl(),
        auth=auth,
        cert=cert if cert is None or key is None else (cert, key),
        ca_bundle=authorities,
        warnings=tuple(warnings),
    )


def _checked_url(url: str) -> SplitResult:
    """Return the parts of a URL that names a server and a path, and nothing else."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
        parts = SplitResult("", "", "", "", "")
    if "@" in parts.netloc:  # checked before a message repeats any part of the URL
        msg = (
            f"url must not contain a user or password; the one for {one_line(host or '')} "
            f"does. Set {USER} and {PASSWORD} in the environment."
        )
        raise OptionError(msg)
    plain = url.isascii() and url.isprintable() and not set(url) & set(' "<>\\^`{|}')
    if parts.scheme not in ("http", "https") or not host or not plain:
        msg = "url must look like https://pacs.example/dicom-web; got another form."
        raise OptionError(msg)
    if parts.query or parts.fragment:
        msg = (
            "url must end with the DICOMweb path; got a query or fragment after it, on "
            f"{one_line(host)}."
        )
        raise OptionError(msg)
    name = f"[{host}]" if ":" in host else host
    usual = {"http": 80, "https": 443}[parts.scheme]
    netloc = name if port in (None, usual) else f"{name}:{port}"
    return SplitResult(parts.scheme, netloc, parts.path.rstrip("/"), "", "")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _auth(user: str | None, password: str | None, token: str | None) -> AuthBase | None:
    if token is not None:
        if user is not None or password is not None:
            msg = (
                f"Credentials must be a token, or user and password; got both. Unset {TOKEN} and "
                f"token_file, or {USER}, {PASSWORD} and password_file."
            )
            raise OptionError(msg)
        if not token.isascii() or not token.isprintable() or " " in token:
            msg = "The bearer token must be one ASCII word; got something else."
            raise OptionError(msg)
        return BearerAuth(token)
    if user is None and password is None:
        return None
    if user is None or password is None:
        missing = USER if user is None else f"{PASSWORD} or password_file"
        msg = f"A user must come with a password, and a password with a user; {missing} is not set."
        raise OptionError(msg)
    if ":" in user:
        msg = f"{USER} must not contain a colon, which ends the user in HTTP; got one."
        raise OptionError(msg)
    return HTTPBasicAuth(user.encode(), password.encode())


def _secret(path: Path | None, option: str, warnings: list[str]) -> str | None:
    """Return the secret in a file of one line."""
    if path is None:
        return None
    try:
        with open_regular(path) as file:
            content = file.read(_LONGEST_SECRET)
            mode = os.fstat(file.fileno()).st_mode
        text = content.decode("utf-8").rstrip("\r\n")
    except FileNotFoundError as error:
        raise not_found(path, argument=option) from error
    except (OSError, UnicodeDecodeError):
        text, mode = "", 0
    if not text or "\n" in text:
        msg = f"{option} must be a readable file of one line; got {path}."
        raise OptionError(msg)
    if os.name == "posix" and mode & stat.S_IROTH:
        warnings.append(f"{path} can be read by every user of this machine: run chmod 600 on it.")
    return text


def _file(path: Path, option: str) -> str:
    if not path.is_file():
        raise not_found(path, argument=option)
    return str(path)


def _content(path: str) -> bytes:
    with open_regular(path) as file:
        return file.read(_LONGEST_KEY)


def _refuse_encrypted(path: str | None, option: str) -> None:
    """Refuse a key with a passphrase, because OpenSSL would stop and ask for it."""
    if path is not None and b"ENCRYPTED" in _content(path):
        msg = f"{option} must hold a key without a passphrase; got an encrypted one, {path}."
        raise OptionError(msg)


def _check_pem(cert: str | None, key: str | None, ca_bundle: str | None) -> None:
    """Refuse files that are not PEM; later, the error would blame the server's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as error:  # includes SSLError
        msg = (
            "client_cert must hold a certificate in PEM format, and it or client_key its "
            f"private key; got {cert}{'' if key is None else f' and {key}'}."
        )
        raise OptionError(msg) from error
    try:
        if ca_bundle is not None:
            context.load_verify_locations(ca_bundle)
    except OSError as error:
        msg = f"ca_bundle must hold certificates in PEM format; got {ca_bundle}."
        raise OptionError(msg) from error
