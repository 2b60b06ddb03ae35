"""Which hosts are never reached through the user's proxy."""

__all__ = ["DIRECT"]

# This machine's own, in the form that httpx2 takes as `mounts`: None is the client's usual transport. A proxy elsewhere
# would not find them, and pictures for the sandbox must not leave this machine.
DIRECT = {"all://localhost": None, "all://127.0.0.0/8": None, "all://[::1]": None}
