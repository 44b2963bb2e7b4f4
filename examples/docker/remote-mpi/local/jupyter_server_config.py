# The password is `whocares`: for a demonstration on this machine only.
from jupyter_server.auth import passwd

c = get_config()  # noqa: F821
c.PasswordIdentityProvider.hashed_password = passwd("whocares")
