import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from router.settings.problem import Problem
from router.settings.schema import Settings

Read = Callable[..., Settings]
Fail = Callable[..., list[Problem]]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pem(authority: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    issued, other = authority.issue_cert("mx.example.edu"), authority.issue_cert("mx.example.edu")
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "foreign", "encrypted", "ca", "text")}
    issued.cert_chain_pems[0].write_to_path(files["certificate"])
    issued.private_key_pem.write_to_path(files["key"])
    other.private_key_pem.write_to_path(files["foreign"])
    authority.cert_pem.write_to_path(files["ca"])
    files["text"].write_text("no PEM\n")
    plain = load_pem_private_key(issued.private_key_pem.bytes(), None)
    files["encrypted"].write_bytes(
        plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    )
    return files


def listen(certificate: Path | str, key: Path | str) -> str:
    return f"[{{port: 25, tls: {{certificate: {certificate}, key: {key}}}}}]"


def store(ca_file: Path | str) -> str:
    return f'{{cliff: {{role: old, hosts: ["a.edu:25"], tls: verify, ca_file: {ca_file}}}}}'


def lists(file: Path | str) -> str:
    return f"[{{store: cliff, manager: mailman3, file: {file}}}]"


def only(problems: list[Problem]) -> tuple[str, str]:
    (problem,) = problems
    return problem.key, problem.message


def test_a_certificate_and_its_key(read: Read, pem: dict[str, Path]) -> None:
    tls = read(listen=listen(pem["certificate"], pem["key"])).listen[0].tls
    assert tls is not None
    assert tls.key == pem["key"]


def test_a_key_of_another_certificate(fail: Fail, pem: dict[str, Path]) -> None:
    key, message = only(fail(listen=listen(pem["certificate"], pem["foreign"])))
    assert key == "listen[0].tls"
    assert "MISMATCH" in message


def test_an_encrypted_key_is_an_error_and_no_prompt(fail: Fail, pem: dict[str, Path]) -> None:
    key, message = only(fail(listen=listen(pem["certificate"], pem["encrypted"])))
    assert key == "listen[0].tls.key"
    assert "is encrypted" in message


def test_files_that_are_no_certificates(fail: Fail, pem: dict[str, Path]) -> None:
    assert only(fail(listen=listen(pem["text"], pem["key"])))[0] == "listen[0].tls"
    assert only(fail(stores=store(pem["text"])))[0] == "stores.cliff.ca_file"


def test_authorities(read: Read, pem: dict[str, Path]) -> None:
    assert read(stores=store(pem["ca"])).stores["cliff"].ca_file == pem["ca"]


def test_missing_files_are_each_named(fail: Fail, tmp_path: Path) -> None:
    none = tmp_path / "none"
    problems = fail(listen=listen(none, none), stores=store(none), lists=lists(none))
    assert [problem.key for problem in problems] == [
        "listen[0].tls.certificate",
        "listen[0].tls.key",
        "stores.cliff.ca_file",
        "lists[0].file",
    ]
    assert all("No such file" in problem.message for problem in problems)


@pytest.mark.parametrize("name", ["relative.txt", "./lists.txt"])
def test_relative_paths(fail: Fail, name: str) -> None:
    assert "no absolute path" in only(fail(lists=lists(name)))[1]


def test_what_is_no_regular_file(fail: Fail, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        assert "Not a regular file" in only(fail(lists=lists(path)))[1]


def test_a_file_that_the_system_does_not_open(fail: Fail, tmp_path: Path) -> None:
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    assert "Too many levels of symbolic links" in only(fail(lists=lists(circle)))[1]


def test_renewing_a_certificate_is_no_other_configuration(read: Read, pem: dict[str, Path]) -> None:
    keys = {"listen": listen(pem["certificate"], pem["key"]), "stores": store(pem["ca"])}
    keys["domains"] = "{example.edu: }"
    before = read(**keys).fingerprint
    pem["certificate"].write_bytes(pem["certificate"].read_bytes() + b"\n")
    assert read(**keys).fingerprint == before
    pem["ca"].write_bytes(pem["ca"].read_bytes() + b"\n")
    assert read(**keys).fingerprint != before
