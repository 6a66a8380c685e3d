"""Messages made for rules: an innocent letter, and one change."""

INNOCENT = {
    "Date": "Mon, 02 Nov 2026 10:00:00 +0100",
    "From": "Anna Berg <anna@example.org>",
    "To": "Bert Tal <bert@example.net>",
    "Message-ID": "<1234@example.org>",
    "Subject": "Minutes of our meeting",
}
BODY = "Hello Bert,\n\nhere are the minutes. See you on Friday.\n\nAnna\n"


def letter(body: str = BODY, *, charset: str = "utf-8", **changes: str | None) -> bytes:
    """The innocent letter with other fields; Reply_To is Reply-To, None takes a field away."""
    fields: dict[str, str] = dict(INNOCENT)
    for name, value in changes.items():
        written = name.replace("_", "-")
        if value is None:
            fields.pop(written, None)
        else:
            fields[written] = value
    head = "".join([f"{name}: {value}\n" for name, value in fields.items()])
    return f"{head}\n{body}".replace("\n", "\r\n").encode(charset)


def page(markup: str) -> bytes:
    """The same as HTML."""
    plain = (
        f"<html><body><p>Hello Bert, here are the minutes of our meeting. See you on Friday.</p>{markup}</body></html>"
    )
    return letter(plain, MIME_Version="1.0", Content_Type="text/html; charset=utf-8")


def attached(name: str, kind: str = "application/octet-stream", content: str = "x") -> bytes:
    """The innocent letter with an attachment."""
    body = (
        f"--b\nContent-Type: text/plain\n\n{BODY}\n--b\nContent-Type: {kind}\n"
        f'Content-Disposition: attachment; filename="{name}"\n\n{content}\n--b--\n'
    )
    return letter(body, MIME_Version="1.0", Content_Type="multipart/mixed; boundary=b")
