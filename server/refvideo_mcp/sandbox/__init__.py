"""A simulated router that renders real video, for people who have no wish to pay for every try.

It imports nothing else of this package: its rules are written from the router's documents, so that a mistake
elsewhere shows.
"""

from .server import Sandbox, serve

__all__ = ["Sandbox", "serve"]
