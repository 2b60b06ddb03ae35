"""What hastens a server's start leaves nothing behind that others would notice."""

import gc
import subprocess
import sys
from contextlib import suppress
from importlib import import_module

import pytest
from pydantic import BaseModel, ValidationError

from refvideo_mcp.startup import hastened


def test_models_made_meanwhile_are_built_when_they_are_first_used() -> None:
    with hastened():

        class Made(BaseModel):
            number: int

    assert not Made.__pydantic_complete__
    with pytest.raises(ValidationError):
        Made.model_validate({"number": "many"})
    assert Made(number=1).number == 1
    assert Made.__pydantic_complete__


def test_everything_is_as_usual_afterwards_even_if_it_breaks_off() -> None:
    before = dict(BaseModel.model_config)
    with suppress(ZeroDivisionError), hastened():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
    assert BaseModel.model_config == before
    assert import_module("rich.console")


def test_a_server_is_built_without_what_only_the_sdk_own_log_needs() -> None:
    script = (
        "import sys\n"
        "from refvideo_mcp.startup import hastened\n"
        "with hastened():\n"
        "    from refvideo_mcp.app import build_server\n"
        "    from refvideo_mcp.settings import Settings\n"
        "    build_server(Settings())\n"
        "print([name for name in sys.modules if name in ('rich.console', 'sqlalchemy', 'PIL', 'av')])\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=False)
    assert (found.stdout, found.returncode) == ("[]\n", 0), found.stderr
