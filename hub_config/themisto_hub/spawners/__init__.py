"""Where servers run: local processes, or pods; the same profiles and the same form for both."""
