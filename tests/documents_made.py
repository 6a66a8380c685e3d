"""Attachments for tests: the smallest files of each kind that hold a text, and messages that carry them."""

import zipfile
from base64 import encodebytes
from io import BytesIO


def zipped(members: dict[str, str]) -> bytes:
    """A ZIP archive."""
    target = BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return target.getvalue()


def docx(text: str) -> bytes:
    """A Word document; each word is cut into two runs, as Word does."""
    runs = "".join(f"<w:r><w:t>{word[:2]}</w:t></w:r><w:r><w:t>{word[2:]} </w:t></w:r>" for word in text.split())
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    deleted = "<w:del><w:r><w:delText>deleted</w:delText></w:r></w:del>"
    return zipped(
        {"word/document.xml": f"<w:document {space}><w:body><w:p>{runs}{deleted}</w:p></w:body></w:document>"}
    )


def xlsx(text: str) -> bytes:
    """An Excel workbook with one string and one number."""
    return zipped(
        {
            "xl/sharedStrings.xml": f"<sst><si><t>{text}</t></si></sst>",
            "xl/worksheets/sheet1.xml": '<worksheet><row><c t="s"><v>99887</v></c><c><v>4711</v></c></row></worksheet>',
        }
    )


def pptx(text: str) -> bytes:
    """A PowerPoint presentation of one slide."""
    return zipped({"ppt/slides/slide1.xml": f'<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:t>{text}</a:t></a:p></p:sld>'})


def odt(text: str) -> bytes:
    """An OpenDocument text."""
    return zipped({"content.xml": f'<o:d xmlns:o="o" xmlns:text="t"><text:p>{text}</text:p><text:p>end</text:p></o:d>'})


def pdf(text: str) -> bytes:
    """A PDF of one page."""
    stream = b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode("latin-1")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    octets, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(octets))
        octets += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(octets)
    octets += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    return octets + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)


def rtf(text: str) -> bytes:
    """A Rich Text document."""
    escaped = "".join(letter if letter.isascii() else f"\\'{letter.encode('cp1252').hex()}" for letter in text)
    return rb"{\rtf1\ansi{\b " + escaped.encode() + rb"}\par end}"


def carrying(name: str, octets: bytes, media_type: str = "application/octet-stream", subject: str = "a file") -> bytes:
    """A message with one attachment."""
    head = (
        f"From: Alice <alice@example.test>\r\nTo: Bob <bob@example.test>\r\nSubject: {subject}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nsee there\r\n"
        f"--b\r\nContent-Type: {media_type}\r\nContent-Transfer-Encoding: base64\r\n"
        f'Content-Disposition: attachment; filename="{name}"\r\n\r\n'
    )
    return head.encode() + encodebytes(octets).replace(b"\n", b"\r\n") + b"--b--\r\n"
