"""The Python packages that this program can do without, and how this very installation gets one."""

import subprocess
import sys
from importlib.util import find_spec

__all__ = ["EXTRAS", "how_to_install"]

# Name of the extra → the module it brings, the package that holds it.
EXTRAS = {"video": ("av", "av"), "heic": ("pillow_heif", "pillow-heif"), "s3": ("obstore", "obstore")}


def how_to_install(package: str) -> str:
    """The command, as it is pasted into a terminal. It goes by no name of ours: in an index anybody may own that."""
    python = subprocess.list2cmdline([sys.executable])
    # uv makes environments without pip.
    return f"{python} -m pip install {package}" if find_spec("pip") else f"uv pip install --python {python} {package}"
