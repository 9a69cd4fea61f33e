"""The inference gateway: Envoy fed by files, the transformer for requests by entity key, the prediction log."""
