"""MLflow behind the hub's identities: one workspace a group, closed to everybody else."""
