"""TLS for a client's link; the only extension that links OpenSSL. Import `ssl` first."""

def context(identity: str, key: str) -> object:
    """A capsule for covey._core.Client(tls=...). key: 64 hex digits of the connection file."""
