"""The section [mime]: messages that are built to exhaust, and attachments that are not wanted."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Action = Literal["pass", "reject", "strip", "quarantine"]

_RUN = [
    *("ade", "adp", "apk", "appx", "bat", "cab", "chm", "cmd", "com", "cpl", "dll", "dmg", "exe", "hta", "ins", "iso"),
    *("isp", "jar", "jnlp", "js", "jse", "lib", "lnk", "mde", "msc", "msi", "msix", "msp", "mst", "nsh", "pif", "ps1"),
    *("scf", "scr", "sct", "shb", "sys", "url", "vb", "vbe", "vbs", "vhd", "vhdx", "vxd", "wsc", "wsf", "wsh", "xll"),
    *("appref-ms", "diagcab", "settingcontent-ms"),
]
_PROGRAMS = ["application/x-dosexec", "application/x-msdownload", "application/vnd.microsoft.portable-executable"]


class Mime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The filter "mime" (smtp.filters). What users send is rejected where strip or quarantine is set."""

    part_limit: Annotated[
        int, Meta(ge=1, le=10_000, description="Parts of one message, multiparts included. Reply 550 5.6.0.")
    ] = 1000
    depth_limit: Annotated[
        int, Meta(ge=1, le=100, description="Parts within each other, the message itself included. Reply 550 5.6.0.")
    ] = 30
    forbidden_suffixes: Annotated[
        list[str],
        Meta(
            description="Ends of file names, behind the last dot, that are not wanted: as attachments, and in zip archives that "
            "are attached. The default are files that Windows, macOS or Android would run."
        ),
    ] = msgspec.field(default_factory=_RUN.copy)
    forbidden_types: Annotated[
        list[str], Meta(description="Media types that are not wanted, as type/subtype or type/*.")
    ] = msgspec.field(default_factory=_PROGRAMS.copy)
    forbidden: Annotated[
        Action,
        Meta(
            description="What becomes of mail with such an attachment. reject: reply 550 5.7.1. strip: a notice stands in its "
            "place, the original is kept in the archive only. quarantine: kept from the mailboxes."
        ),
    ] = "reject"
    encrypted_archives: Annotated[
        Action,
        Meta(description="The same of mail with an encrypted zip, 7z or RAR archive, in which no virus can be found."),
    ] = "pass"
