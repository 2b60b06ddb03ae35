"""The doors: how callers reach the server, and how its process ends."""
