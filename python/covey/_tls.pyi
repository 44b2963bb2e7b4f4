"""TLS for a client's link; the only extension that links OpenSSL. Import `ssl` first."""

def context(identity: str, key: str, *, sshserver: str | None = None, sshkey: str | None = None, password: str | None = None) -> object:
    """A capsule for covey._core.Client(tls=...). key: 64 hex digits of the connection file.

    sshserver: "[user@]host[:port]" to go through, with OpenSSH as the user has configured it; sshkey: its private key's file.
    """

def explain_ssh(server: str, said: bytes) -> str:
    """One sentence of what ssh wrote to its standard error before it ended, and what helps."""
