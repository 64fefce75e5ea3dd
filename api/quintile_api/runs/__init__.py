"""What agents report about trials: metrics, logs, checkpoints, artifacts; and reading them."""
