"""The tables of docs/clients.md: a test of a client holds its row, so that the page says what was run and seen."""

from pathlib import Path

__all__ = ["HTTP", "STDIO", "rows", "written"]

HTTP, STDIO = "HTTP", "stdio"
PAGE = Path(__file__).parent.parent / "docs" / "clients.md"


def written(heading: str, *cells: str) -> None:
    """Fail unless the table below that heading has this row."""
    assert cells in rows(heading), f"{PAGE.name} should have: | {' | '.join(cells)} |"


def rows(heading: str) -> list[tuple[str, ...]]:
    """The cells of each row of the table below a heading."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
