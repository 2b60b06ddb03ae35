"""What our server costs beside the bare SDK: `python tests/bench`, one table, every figure a ratio of one run."""
