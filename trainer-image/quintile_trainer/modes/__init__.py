"""How the ranks of a generation act as one: one small interface, one module per mode."""

from quintile_trainer.modes.interface import Mode

__all__ = ["Mode"]
