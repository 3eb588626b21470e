from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests

from esp_medsam.errors import InputNotFoundError, OptionError
from esp_medsam.integrations.dicomweb.access import read_access


HTTPS = "https://pacs.example/dicom-web"
USER = {"ESP_MEDSAM_PACS_USER": "doctor", "ESP_MEDSAM_PACS_PASSWORD": "sésame"}
TOKEN = {"ESP_MEDSAM_PACS_TOKEN": "abc.def"}


def authorization(auth: Any) -> str:
    return str(auth(requests.Request("GET", HTTPS).prepare()).headers["Authorization"])


class TestReadAccess:
    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("https://PACS.example/dicom-web/", HTTPS),
            ("https://pacs.example:443/dicom-web", HTTPS),
            ("http://127.0.0.1:8042/dicom-web", "http://127.0.0.1:8042/dicom-web"),
            ("http://[::1]:8042", "http://[::1]:8042"),
        ],
    )
    def test_writes_one_server_in_one_way(self, url: str, expected: str) -> None:
        assert read_access(url, environ={}).url == expected

    @pytest.mark.parametrize(
        "url",
        [
            *(
                "pacs.example",
                "ftp://pacs.example",
                "https://",
                "https://pacs:port/",
                "https://[/x",
            ),
            *("https://pacs.example/a b", "https://pacs.example/\n", "https://pacs.example/é", ""),
        ],
    )
    def test_refuses_what_is_no_url(self, url: str) -> None:
        with pytest.raises(OptionError, match=r"url must.*like https://"):
            read_access(url, environ={})

    def test_refuses_a_password_in_the_url_and_does_not_repeat_it(self) -> None:
        with pytest.raises(OptionError, match=r"url must not.*a user or password") as caught:
            read_access("https://doctor:sesame@pacs.example/dicom-web", environ={})

        assert "sesame" not in str(caught.value)
        assert "doctor" not in str(caught.value)

    @pytest.mark.parametrize("end", ["?token=sesame", "#sesame"])
    def test_refuses_more_than_a_path(self, end: str) -> None:
        with pytest.raises(OptionError, match=r"must end with the.*path") as caught:
            read_access(HTTPS + end, environ={})

        assert "sesame" not in str(caught.value)

    def test_takes_user_and_password_from_the_environment(self) -> None:
        access = read_access(HTTPS, environ=USER)

        assert authorization(access.auth) == "Basic ZG9jdG9yOnPDqXNhbWU="
        assert "sésame" not in repr(access)

    def test_takes_secrets_from_files(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("abc.def\n")
        (tmp_path / "token").chmod(0o600)

        access = read_access(HTTPS, token_file=tmp_path / "token", environ={})

        assert authorization(access.auth) == "Bearer abc.def"
        assert access.warnings == ()

    def test_warns_of_a_secret_that_all_can_read(self, tmp_path: Path) -> None:
        (tmp_path / "token").write_text("abc.def\n")
        (tmp_path / "token").chmod(0o644)

        access = read_access(HTTPS, token_file=tmp_path / "token", environ={})

        assert access.warnings[0].endswith(
            "can be read by every user of this machine: run chmod 600 on it."
        )

    @pytest.mark.parametrize("content", [None, b"", b"\n", b"two\nlines\n", b"\xff"])
    def test_refuses_a_file_that_holds_no_secret(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        if content is not None:
            (tmp_path / "token").write_bytes(content)

        kind = InputNotFoundError if content is None else OptionError
        with pytest.raises(kind, match="token_file must be"):
            read_access(HTTPS, token_file=tmp_path / "token", environ={})

    @pytest.mark.parametrize(
        ("environ", "words"),
        [
            ({**USER, **TOKEN}, "must be a token, or user and password; got both"),
            ({"ESP_MEDSAM_PACS_USER": "doctor"}, "ESP_MEDSAM_PACS_PASSWORD or password_file"),
            ({"ESP_MEDSAM_PACS_PASSWORD": "sesame"}, "ESP_MEDSAM_PACS_USER is not set"),
            ({**USER, "ESP_MEDSAM_PACS_USER": "a:b"}, "colon"),
            ({"ESP_MEDSAM_PACS_TOKEN": "sesame\r\nHost: x"}, "must be one.*word"),
        ],
    )
    def test_refuses_credentials_that_do_not_fit(self, environ: dict[str, str], words: str) -> None:
        with pytest.raises(OptionError, match=words) as caught:
            read_access(HTTPS, environ=environ)

        assert "sesame" not in str(caught.value)

    def test_sends_no_credentials_unencrypted_to_another_machine(self) -> None:
        plain = "http://pacs.example/dicom-web"

        with pytest.raises(OptionError, match="Use https, or pass `allow_http`"):
            read_access(plain, environ=TOKEN)

        assert read_access(plain, environ=TOKEN, allow_http=True).auth is not None
        assert "is not encrypted" in read_access(plain, environ={}).warnings[0]
        assert read_access("http://127.0.0.2:1/", environ=TOKEN).warnings == ()
        assert read_access("http://localhost:1/", environ=TOKEN).warnings == ()

    def test_takes_certificates(self, tmp_path: Path, certificate: tuple[Path, Path]) -> None:
        cert, key = certificate
        (tmp_path / "both").write_text(key.read_text() + cert.read_text())

        apart = read_access(HTTPS, client_cert=cert, client_key=key, ca_bundle=cert, environ={})
        one = read_access(HTTPS, client_cert=tmp_path / "both", environ={})

        assert apart.cert == (str(cert), str(key))
        assert apart.ca_bundle == str(cert)
        assert one.cert == str(tmp_path / "both")

    @pytest.mark.parametrize(
        ("files", "words"),
        [
            ({"client_cert": "cert"}, "client_cert must hold a certificate.*and it or client_key"),
            ({"client_cert": "text"}, "client_cert must .*client_key"),
            ({"client_cert": "cert", "client_key": "text"}, "its private key; got .* and "),
            ({"ca_bundle": "text"}, "ca_bundle must hold certificates.*PEM"),
        ],
    )
    def test_refuses_what_is_no_pem(
        self, certificate: tuple[Path, Path], files: dict[str, str], words: str
    ) -> None:
        text = certificate[0].with_name("text")
        text.write_text("-----BEGIN-----\n")
        paths = {"cert": certificate[0], "text": text}

        with pytest.raises(OptionError, match=words):
            read_access(HTTPS, environ={}, **{name: paths[file] for name, file in files.items()})

    def test_refuses_certificates_that_cannot_be_used(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")

        with pytest.raises(InputNotFoundError, match="client_cert must be an existing file"):
            read_access(HTTPS, client_cert=tmp_path / "none", environ={})
        with pytest.raises(OptionError, match="client_key must come with client_cert"):
            read_access(HTTPS, client_key=tmp_path / "key", environ={})
        with pytest.raises(OptionError, match="without a passphrase"):
            read_access(HTTPS, client_cert=tmp_path / "key", environ={})
