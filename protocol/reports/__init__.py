"""Reports that other servers send about our domains: DMARC aggregate reports and TLS reports. Octets in, values out.

Anybody can send one, so nothing in them is trusted: sizes are bounded before and after unpacking, XML has no document type.
"""


class ReportError(ValueError):
    """The octets are no report that can be read. The text is for the log; it never holds what was read."""
