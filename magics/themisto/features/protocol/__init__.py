"""The read API's messages over gRPC: features.proto, and what `scripts/stubs` makes of it."""
