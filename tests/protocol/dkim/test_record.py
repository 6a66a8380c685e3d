"""Key records: their text, their form in a zone file, and what is wrong with one that the DNS shows."""

import base64

import dns.zone
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from protocol.dkim.record import Finding, character_strings, examine, record_name, record_text, zone_line
from protocol.dkim.signature import public_octets

RSA = public_octets(generate_private_key(65537, 2048))
ED25519 = public_octets(Ed25519PrivateKey.generate())
TEXT = record_text("rsa-sha256", RSA)


def test_a_zone_file_line_reads_back() -> None:
    """RFC 1035 §5.1: a record of an RSA key, which is longer than one string may be, reads back as the same octets."""
    name = record_name("one", "example.net")
    zone = dns.zone.from_text(
        "@ 1 IN SOA a. b. 1 2 3 4 5\n@ 1 IN NS a.\n" + zone_line(name, "TXT", TEXT, 3600) + "\n", "example.net."
    )
    [record] = zone.find_rdataset("one._domainkey", "TXT")
    assert b"".join(record.strings).decode() == TEXT
    assert max(len(string) for string in record.strings) <= 255
    assert "".join(character_strings(TEXT)) == TEXT
    assert zone_line("a.example", "CNAME", "b.example", 60) == "a.example. 60 IN CNAME b.example."


def test_what_a_record_says() -> None:
    """RFC 6376 §3.6.1, RFC 8463 §4: version, key type and key."""
    assert f"v=DKIM1; k=rsa; p={base64.b64encode(RSA).decode()}" == TEXT
    assert record_text("ed25519-sha256", ED25519) == f"v=DKIM1; k=ed25519; p={base64.b64encode(ED25519).decode()}"


@pytest.mark.parametrize(
    ("answers", "finding"),
    [
        ([TEXT], Finding.RIGHT),
        ([TEXT.replace("v=DKIM1; k=rsa; ", "")], Finding.RIGHT),
        ([TEXT + "; t=s; n=note; s=email; h=sha256"], Finding.RIGHT),
        ([TEXT.replace("; ", ";  \t")], Finding.RIGHT),
        ([TEXT[:80] + " " + TEXT[80:]], Finding.RIGHT),
        ([], Finding.MISSING),
        ([TEXT, TEXT], Finding.SEVERAL),
        (["v=spf1 -all"], Finding.MALFORMED),
        (["nonsense"], Finding.MALFORMED),
        (["v=DKIM1; k=rsa"], Finding.MALFORMED),
        (["v=DKIM1; p=***"], Finding.MALFORMED),
        (["v=DKIM2; p=" + base64.b64encode(RSA).decode()], Finding.MALFORMED),
        (["v=DKIM1; p="], Finding.REVOKED),
        ([record_text("ed25519-sha256", ED25519)], Finding.ANOTHER_TYPE),
        ([record_text("rsa-sha256", RSA[:-1] + b"\0")], Finding.ANOTHER_KEY),
        ([TEXT + "; s=tlsrpt"], Finding.RESTRICTED),
        ([TEXT + "; h=sha1"], Finding.RESTRICTED),
    ],
)
def test_what_is_wrong_is_named(answers: list[str], finding: Finding) -> None:
    """RFC 6376 §3.6.1: each way in which a record can fail a verifier has its own name."""
    assert examine([answer.encode() for answer in answers], "rsa-sha256", RSA) is finding
