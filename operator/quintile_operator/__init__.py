"""The reconciler, its drivers and executors."""
