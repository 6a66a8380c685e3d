"""What a TLS channel can be bound by (RFC 5056): tls-exporter (RFC 9266), tls-unique and tls-server-end-point (RFC 5929).

SCRAM-SHA-256-PLUS is offered only where the type that clients take by default is there: tls-exporter in TLS 1.3 (RFC 9266
§3), tls-unique before. Python's ssl module gives tls-unique; the certificate's hash is ours to compute; the exporter is
in the TLS library, and the ssl module does not show it. So it is called there directly, with care: the connection's pointer
is taken only from an object whose memory looks as it must, and where anything is different there is no exporter.
"""

import ctypes
import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 §2
_EXPORTED_OCTETS = 32
_WORD = ctypes.sizeof(ctypes.c_void_p)

_Export = Callable[[int], bytes | None]


class ChannelBindings:
    """One per server certificate."""

    def __init__(self, certificate: str) -> None:
        self._end_point = end_point(certificate)

    def of(self, tls: ssl.SSLObject | None) -> Mapping[str, bytes]:
        """Types and octets for one connection; none when it cannot be bound by what clients use by default."""
        found: dict[str, bytes] = {}
        if tls is None:
            return found
        if tls.version() == "TLSv1.3":
            exported = exporter(tls)
            if exported is not None:
                found["tls-exporter"] = exported
        else:  # no renegotiation and only ECDHE: what broke tls-unique (RFC 7627 §1) cannot happen
            unique = tls.get_channel_binding("tls-unique")
            if unique:
                found["tls-unique"] = unique
        if found and self._end_point is not None:
            found["tls-server-end-point"] = self._end_point
        return found


def end_point(certificate: str) -> bytes | None:
    """RFC 5929 §4.1: the certificate hashed with its own signature's hash, where that is not MD5 or SHA-1. Blocking I/O."""
    try:
        found = x509.load_pem_x509_certificates(Path(certificate).read_bytes())[0]
    except (OSError, ValueError):
        return None
    algorithm = found.signature_hash_algorithm
    if algorithm is None:  # Ed25519 and its like: the type is not defined for them
        return None
    if isinstance(algorithm, hashes.MD5 | hashes.SHA1):
        algorithm = hashes.SHA256()
    return found.fingerprint(algorithm)


def exporter(tls: ssl.SSLObject | ssl.SSLSocket) -> bytes | None:
    """RFC 9266 §2: the channel's keying material for this purpose, or None where the library does not give it."""
    export = _exporting()
    pointer = _pointer(tls) if export is not None else None
    return export(pointer) if export is not None and pointer is not None else None


@cache
def _exporting() -> _Export | None:
    """SSL_export_keying_material of the very library that the ssl module runs on."""
    with suppress(ImportError, OSError, AttributeError):
        import _ssl

        if sys.implementation.name != "cpython":
            return None
        function = ctypes.CDLL(_ssl.__file__).SSL_export_keying_material  # looked up among what _ssl is linked with
        size, text = ctypes.c_size_t, ctypes.c_char_p
        function.argtypes = [ctypes.c_void_p, text, size, text, size, text, size, ctypes.c_int]
        function.restype = ctypes.c_int

        def export(pointer: int) -> bytes | None:
            octets = ctypes.create_string_buffer(_EXPORTED_OCTETS)
            # RFC 9266 §2: without a context, which in TLS 1.3 is the same as an empty one
            done = function(pointer, octets, _EXPORTED_OCTETS, _LABEL, len(_LABEL), None, 0, 0)
            return octets.raw if done == 1 else None

        return export
    return None


def _pointer(tls: ssl.SSLObject | ssl.SSLSocket) -> int | None:
    """The SSL* in CPython's object: the word between its weak reference to the socket and its context.

    Only words of the object itself are read, which is always allowed. When the one behind is the context that the
    object says it has, and the one before is no number (a pointer or NULL), the layout is the known one.
    """
    inner: Any = getattr(tls, "_sslobj", None)
    if inner is None or type(inner).__basicsize__ < object.__basicsize__ + 3 * _WORD:
        return None
    words = (ctypes.c_void_p * 3).from_address(id(inner) + object.__basicsize__)
    return words[1] if words[1] and words[2] == id(inner.context) else None
