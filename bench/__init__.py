"""Benchmarks: every figure beside a named peer, measured in the same run. See docs/bench.md."""
