"""What a script may cost. config/sieve.py lets the operator set these."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one script and of one run."""

    script_octets: int = 256 << 10
    nesting: int = 32  # of blocks and tests; RFC 5228 §2.10.5 asks for 15
    actions: int = 32
    redirects: int = 4
    notifications: int = 10
    work: int = 100_000  # commands, tests, keys compared; about a microsecond each. Fifty common rules do 200
    variables: int = 255  # RFC 5229 §6 asks for 128
    variable_octets: int = 4_000  # RFC 5229 §6 asks for 4,000
    include_depth: int = 10
    includes: int = 255
    part_depth: int = 10  # of foreverypart within each other
    message_octets: int = 64 << 20  # of an edited message, and of all that actions have together
    body_octets: int = 1 << 20  # of the body; what lies behind is not looked at
    field_octets: int = 2_048  # of a field that addheader adds
    regex_octets: int = 2_000  # of one pattern
    regex_memory: int = 1 << 20  # of one pattern, compiled
    vacation_least_seconds: int = 86_400  # RFC 5230 §4.1; with vacation-seconds 0 is possible, RFC 6131 §2
    vacation_most_seconds: int = 60 * 86_400
    vacation_usual_seconds: int = 7 * 86_400
    duplicate_usual_seconds: int = 7 * 86_400
    duplicate_most_seconds: int = 30 * 86_400


DEFAULT_LIMITS = Limits()
