"""Messages with attachments, put together by hand: every octet of them is known."""

import base64

BOUNDARY = b"=_tests"


def attached(*files: tuple[str, bytes], text: bytes = b"Hello.\r\n", header: bytes = b"") -> bytes:
    """multipart/mixed: part 1 is the text, then follow the files, base64."""
    octets = (
        b"From: a@client.example\r\nTo: alice@example.test\r\nSubject: x\r\nMIME-Version: 1.0\r\n"
        + header
        + b'Content-Type: multipart/mixed; boundary="'
        + BOUNDARY
        + b'"\r\n\r\n'
        b"--" + BOUNDARY + b"\r\nContent-Type: text/plain\r\n\r\n" + text
    )
    for name, content in files:
        encoded = base64.encodebytes(content).replace(b"\n", b"\r\n")
        octets += (
            b"\r\n--" + BOUNDARY + b"\r\nContent-Type: application/octet-stream\r\n"
            b'Content-Disposition: attachment; filename="' + name.encode() + b'"\r\n'
            b"Content-Transfer-Encoding: base64\r\n\r\n" + encoded
        )
    return octets + b"\r\n--" + BOUNDARY + b"--\r\n"
