"""SMTP TLS reporting, RFC 8460: the policy record, and the report as JSON."""

from typing import Literal, TypeAlias

FailureType: TypeAlias = Literal[  # RFC 8460 §4.3
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
]
PolicyType: TypeAlias = Literal["tlsa", "sts", "no-policy-found"]  # RFC 8460 §4.4
