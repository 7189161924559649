"""One certificate authority instead of all: reading them is a sixth of what a start of the program costs."""

from pathlib import Path

_ONE = str(Path(__file__).with_name("authority.pem"))  # its key was thrown away: it vouches for nothing

ONE_AUTHORITY = {"AWS_CA_BUNDLE": _ONE, "SSL_CERT_FILE": _ONE}
"""Variables for whatever speaks to loopback in clear text: botocore reads the one, aiohttp when imported the other."""
