"""Certificates of a private authority."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(folder: Path) -> Path:
    """Into `folder`: an authority `ca.pem`, and certificates of `server` (127.0.0.1, localhost) and `client`;
    `other` is another authority, which signed one of the client `stranger`."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "other"):
        openssl(*f"req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN={authority} -keyout".split(),
                f"{authority}.key", "-out", f"{authority}.pem")  # fmt: skip
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl(*f"req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr".split())
        (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        signed = f"-CA {authority}.pem -CAkey {authority}.key -CAcreateserial -days 2 -extfile names -out {name}.pem"
        openssl(*f"x509 -req -in {name}.csr {signed}".split())
    return folder
