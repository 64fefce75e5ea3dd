"""``python -m quintile.cli``."""

from quintile.cli.main import main

main()
