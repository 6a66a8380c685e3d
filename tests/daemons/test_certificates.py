"""The private CA and its server certificate: made once, kept, renewed in time, accepted by clients."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from config.tls import Tls
from daemons.certificates import NAMES, RENEWAL_DAYS, SERVER_DAYS, complaint, issue
from daemons.sockets import server_tls_context

NOW = datetime.now(UTC)


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    """The files stay as they are while the certificate lasts."""
    issued = issue(tmp_path, now=NOW)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert issue(tmp_path, now=NOW + timedelta(days=SERVER_DAYS - RENEWAL_DAYS - 1)) == issued
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert complaint(issued.certificate, now=NOW) is None


def test_it_is_renewed_in_time_under_the_same_authority(tmp_path: Path) -> None:
    """Within 30 days of its expiry there is a new certificate, for the same key and by the same authority."""
    issued = issue(tmp_path, now=NOW)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir() if path != issued.certificate}
    old, late = issued.certificate.read_bytes(), NOW + timedelta(days=SERVER_DAYS - RENEWAL_DAYS + 1)
    assert "expires on" in (complaint(issued.certificate, now=late) or "")
    issue(tmp_path, now=late)
    assert issued.certificate.read_bytes() != old
    assert {path: path.read_bytes() for path in kept} == kept
    assert complaint(issued.certificate, now=late) is None


def test_other_names_make_a_new_certificate(tmp_path: Path) -> None:
    """When the host gets another name the certificate carries it."""
    certificate = issue(tmp_path, now=NOW).certificate
    issue(tmp_path, now=NOW, names=(*NAMES, "mx.example.test"))
    names = x509.load_pem_x509_certificate(certificate.read_bytes()).extensions
    told = names.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert "mx.example.test" in told


def test_an_unfinished_run_is_finished(tmp_path: Path) -> None:
    """Whatever file a crash has left out is made by the next call, and the set fits together."""
    issued = issue(tmp_path, now=NOW)
    for path in sorted(tmp_path.iterdir()):
        path.unlink()
        server_tls_context(Tls(certificate=str(issue(tmp_path, now=NOW).certificate), key=str(issued.key)))
        _shake_hands(tmp_path, "localhost")


@pytest.mark.parametrize("name", NAMES)
def test_clients_accept_it(tmp_path: Path, name: str) -> None:
    """A client that trusts the authority accepts the server by each of its names."""
    issue(tmp_path, now=NOW)
    assert _shake_hands(tmp_path, name) in ("TLSv1.2", "TLSv1.3")


def test_clients_refuse_another_name(tmp_path: Path) -> None:
    """A name that the certificate has not is refused."""
    issue(tmp_path, now=NOW)
    with pytest.raises(ssl.SSLCertVerificationError):
        _shake_hands(tmp_path, "example.org")


def test_keys_are_private(tmp_path: Path) -> None:
    """Keys are readable by their owner alone."""
    issue(tmp_path, now=NOW)
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("*.key")} == {
        "ca.key": 0o600,
        "server.key": 0o600,
    }


def test_complaints(tmp_path: Path) -> None:
    """What is wrong with a certificate is said in one line that names the file."""
    certificate = issue(tmp_path, now=NOW).certificate
    assert "has expired" in (complaint(certificate, now=NOW + timedelta(days=SERVER_DAYS + 1)) or "")
    assert "not valid before" in (complaint(certificate, now=NOW - timedelta(days=1)) or "")
    assert str(tmp_path / "none.pem") in (complaint(tmp_path / "none.pem", now=NOW) or "")


def _shake_hands(directory: Path, name: str) -> str | None:
    """A handshake in memory; gives the version. Raises ssl.SSLError."""
    tls = Tls(certificate=str(directory / "server.pem"), key=str(directory / "server.key"))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_context = ssl.create_default_context(cafile=str(directory / "ca.pem"))
    client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
    server = server_tls_context(tls).wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return client.version()
