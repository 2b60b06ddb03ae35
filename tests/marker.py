"""The key of every test that needs one. `conftest` makes sure that it reaches the router and nothing else."""

KEY = "sk-marker-7c1f0e5d9ab24e86"
