"""Benchmarks: ours beside the peer, in one run, on one machine. `make bench`."""
