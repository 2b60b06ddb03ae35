"""An MCP server that turns reference images into video."""

__all__ = ["__version__"]

__version__ = "0.1.0"
