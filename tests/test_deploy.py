"""What is published beside the package says what the package says: versions, tools, settings; and it starts."""

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from mcp import Client, StdioServerParameters

import refvideo_mcp.settings
from command_line import environment, run_in
from node_tools import node, package
from pictures import saved, scene
from programs import needs
from refvideo_mcp import __version__
from refvideo_mcp.cli import DONE, FAILED, NOT_OVER, REFUSED, UNCERTAIN
from refvideo_mcp.sandbox import Sandbox

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SKILL = DEPLOY / "plugin" / "skills" / "reference-video" / "SKILL.md"
HOSTS = ["claude", "codex", "cursor"]


def read(*names: str) -> Any:
    return json.loads(DEPLOY.joinpath(*names).read_text(encoding="utf-8"))


def settings() -> set[str]:
    source = Path(refvideo_mcp.settings.__file__).read_text(encoding="utf-8")
    return set(re.findall(r'"((?:MYROUTER|REFVIDEO)_[A-Z_]+)"', source))


def mcpb(*arguments: str | Path) -> str:
    """What the bundle's own tool prints."""
    command = [node(), package("@anthropic-ai/mcpb") / "dist" / "cli" / "cli.js", *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_version_is_the_packages() -> None:
    registry, bundle = read("server.json"), read("mcpb", "manifest.json")
    made_of = tomllib.loads((DEPLOY / "mcpb" / "pyproject.toml").read_text(encoding="utf-8"))
    found = [registry["version"], *(p["version"] for p in registry["packages"]), bundle["version"]]
    found.append(made_of["project"]["version"])
    assert set(found) == {__version__}
    wheel = made_of["tool"]["uv"]["sources"]["refvideo-mcp"]["path"]
    assert wheel == f"refvideo_mcp-{__version__}-py3-none-any.whl"


def test_every_lowest_python_is_the_packages() -> None:
    (lowest,) = re.findall(
        r'^requires-python = "(.*)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE
    )
    made_of = tomllib.loads((DEPLOY / "mcpb" / "pyproject.toml").read_text(encoding="utf-8"))
    runtimes = read("mcpb", "manifest.json")["compatibility"]["runtimes"]
    assert [made_of["project"]["requires-python"], runtimes["python"]] == [lowest, lowest]


def test_the_bundle_lists_the_tools_as_clients_see_them() -> None:
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((ROOT / "tool_schemas").glob("*.json"))]
    assert read("mcpb", "manifest.json")["tools"] == [
        {"name": entry["name"], "description": entry["description"]} for entry in entries
    ]


def test_only_settings_that_are_read_are_asked_for() -> None:
    asked = {variable["name"]: variable for variable in read("server.json")["packages"][0]["environmentVariables"]}
    assert asked.keys() | read("mcpb", "manifest.json")["server"]["mcp_config"]["env"].keys() <= settings()
    assert [name for name, variable in asked.items() if variable.get("isSecret")] == ["MYROUTER_API_KEY"]


def test_every_default_is_the_one_that_holds_without_it() -> None:
    defaults = refvideo_mcp.settings.Settings()
    asked = {variable["name"]: variable for variable in read("server.json")["packages"][0]["environmentVariables"]}
    assert asked["MYROUTER_BASE_URL"]["default"] == defaults.base_url
    assert asked["REFVIDEO_MAX_SECONDS_PER_DAY"]["default"] == str(defaults.max_seconds_per_day)
    assert (asked["REFVIDEO_CONFIRM"]["default"], defaults.confirm_above) == ("never", None)
    assert read("mcpb", "manifest.json")["user_config"]["seconds_per_day"]["default"] == defaults.max_seconds_per_day


def test_the_registrys_entry_is_valid() -> None:
    """By the registry's own schema, of which server.schema.json is a copy."""
    schema = json.loads((Path(__file__).parent / "server.schema.json").read_text(encoding="utf-8"))
    entry = read("server.json")
    assert entry["$schema"] == schema["$id"]
    assert [error.message for error in Draft7Validator(schema).iter_errors(entry)] == []


def test_the_readme_names_the_registrys_entry() -> None:
    """The registry looks for it in the description on the package index, to know whose the package is."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^<!-- mcp-name: (\S+) -->$", readme, re.MULTILINE) == [read("server.json")["name"]]


def test_the_bundles_manifest_is_valid() -> None:
    assert "Manifest schema validation passes!" in mcpb("validate", DEPLOY / "mcpb" / "manifest.json")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, packed as it is published and unpacked as a host does."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.copytree(DEPLOY / "mcpb", folder / "packed")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder / "packed"), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    mcpb("pack", folder / "packed", folder / "refvideo-mcp.mcpb")
    with zipfile.ZipFile(folder / "refvideo-mcp.mcpb") as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_the_bundle_holds_the_wheel_and_what_starts_it(bundle: Path) -> None:
    assert sorted(file.name for file in bundle.iterdir()) == [
        "main.py",
        "manifest.json",
        "pyproject.toml",
        f"refvideo_mcp-{__version__}-py3-none-any.whl",
    ]


@pytest.fixture(scope="module")
def uv(bundle: Path) -> str:
    """The program that starts the bundle, which has installed what the bundle needs."""
    uv = needs("uv", folders=[Path(sys.executable).parent])
    installed = subprocess.run([uv, "sync", "--directory", bundle], capture_output=True, timeout=600, check=False)
    if installed.returncode:
        pytest.skip(f"uv could not install the bundle: {installed.stderr.decode()[-500:]}")
    return uv


@pytest.mark.anyio
async def test_the_bundle_starts_as_its_manifest_says_and_simulates_until_a_key_is_set(
    bundle: Path, uv: str, tmp_path: Path
) -> None:
    manifest = read("mcpb", "manifest.json")
    started = manifest["server"]["mcp_config"]

    def filled(text: str) -> str:
        """As a host does it: what the user left empty, and what has no default, stays as it is written."""
        for name, asked in manifest["user_config"].items():
            if "default" in asked:
                text = text.replace(f"${{user_config.{name}}}", str(asked["default"]))
        return text.replace("${__dirname}", str(bundle))

    env = environment(**{name: filled(value) for name, value in started["env"].items()})
    arguments = [filled(argument) for argument in started["args"]]
    assert started["command"] == "uv"
    async with Client(StdioServerParameters(command=uv, args=arguments, env=env, cwd=tmp_path)) as client:
        tools = await client.list_tools()
        listed = await client.call_tool("list_reference_videos", {})
        picture = str(ROOT / "docs" / "images" / "demo.jpg")
        order = {"prompt": "@1 waves", "subjects": [{"id": "1", "images": [picture]}]}
        ordered = await client.call_tool("generate_reference_video", order)
    assert [tool.name for tool in tools.tools] == [tool["name"] for tool in manifest["tools"]]
    assert not listed.is_error
    assert listed.content[0].model_dump()["text"].startswith("[sandbox]")
    assert str(bundle) not in ordered.content[0].model_dump()["text"]  # the user's pictures do not belong in there


@pytest.mark.parametrize("marketplace", [".claude-plugin/marketplace.json", ".agents/plugins/marketplace.json"])
def test_a_marketplace_leads_to_the_plugin(marketplace: str) -> None:
    (plugin,) = read(marketplace)["plugins"]
    source = plugin["source"] if isinstance(plugin["source"], str) else plugin["source"]["path"]
    assert (DEPLOY / source).resolve() == DEPLOY / "plugin"
    assert {read("plugin", f".{host}-plugin", "plugin.json")["name"] for host in HOSTS} == {plugin["name"]}


@pytest.mark.parametrize("host", HOSTS)
def test_a_plugin_has_the_packages_version_and_the_registrys_words(host: str) -> None:
    manifest = read("plugin", f".{host}-plugin", "plugin.json")
    assert (manifest["version"], manifest["description"]) == (__version__, read("server.json")["description"])


@pytest.mark.parametrize("host", HOSTS)
def test_a_plugin_starts_the_command_and_holds_no_key(host: str) -> None:
    servers = read("plugin", f".{host}-plugin", "plugin.json")["mcpServers"]
    if isinstance(servers, str):
        servers = read("plugin", servers)["mcpServers"]
    (server,) = servers.values()
    assert (
        server["command"] in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    )
    held = set(server.get("env", {}).values()) | set(server.get("env_vars", []))
    assert held <= {"${MYROUTER_API_KEY:-sandbox}", "MYROUTER_API_KEY"}


def frontmatter() -> dict[str, str]:
    _, head, _ = SKILL.read_text(encoding="utf-8").split("---\n", 2)
    return dict(line.split(": ", 1) for line in head.splitlines())


def test_the_skill_is_named_as_its_folder_and_says_when_to_use_it() -> None:
    """By the rules of Agent Skills."""
    head = frontmatter()
    assert head.keys() == {"name", "description"}
    assert head["name"] == SKILL.parent.name
    assert 0 < len(head["description"]) <= 1024


def test_the_skill_names_only_what_there_is() -> None:
    text = SKILL.read_text(encoding="utf-8")
    entries = [json.loads(file.read_text(encoding="utf-8")) for file in (ROOT / "tool_schemas").glob("*.json")]
    assert {name for name in re.findall(r"`(\w+)`", text) if name.endswith(("_video", "_videos", "_result"))} == {
        entry["name"] for entry in entries
    }
    assert set(re.findall(r"\b(?:MYROUTER|REFVIDEO)_[A-Z_]+", text)) <= settings()
    (generate,) = (entry for entry in entries if entry["name"] == "generate_reference_video")
    fields = generate["inputSchema"]["properties"]
    used = set(re.findall(r"`(\w+)(?:: [^`]*)?`", text)) & {
        "prompt",
        "subjects",
        "audio",
        "bgm",
        "seed",
        "aspect_ratio",
    }
    assert used <= fields.keys()
    assert len(used) == 6
    assert f"{fields['duration']['minimum']}-{fields['duration']['maximum']} s" in text
    assert set(re.findall(r"`(\d+p)`", text)) == set(fields["resolution"]["enum"])
    states = {
        state for row in re.findall(r"^\| (`.*?) \|", text, re.MULTILINE) for state in re.findall(r"`(\w+)`", row)
    }
    (result,) = (entry for entry in entries if entry["name"] == "get_task_result")
    assert states == set(result["outputSchema"]["properties"]["state"]["enum"]) - {"succeeded"}


def test_the_skills_exit_codes_are_the_commands() -> None:
    told = re.findall(r"(?:Exit code )?(\d): ", SKILL.read_text(encoding="utf-8").split("Exit code ")[1].split("\n")[0])
    assert [int(code) for code in told] == [DONE, FAILED, REFUSED, NOT_OVER, UNCERTAIN]


def test_the_skills_command_makes_a_video(tmp_path: Path) -> None:
    (line,) = re.findall(r"^refvideo-mcp (generate .*)$", SKILL.read_text(encoding="utf-8"), re.MULTILINE)
    for name in ("fox", "lantern"):
        (tmp_path / f"{name}.png").write_bytes(saved(scene(), "PNG"))
    with Sandbox(seconds=0.5) as router:
        done = run_in(
            tmp_path,
            *shlex.split(line),
            MYROUTER_BASE_URL=router.url,
            MYROUTER_API_KEY="local",
            REFVIDEO_OUTPUT_DIR=str(tmp_path),
        )
    assert done.returncode == DONE, done.stderr
    assert Path(done.stdout.strip()).is_file()
