"""Code that runs inside Triton, in the model server's environment: staged as files, never imported here."""
