"""Fast restart: a process that has imported what ranks import, and forks one when asked.

The agent starts ``python -m quintile_trainer.zygote`` once training goes well, and asks it for the
ranks of later generations. A rank from there is the agent's own child, as any other: its parent in
between ends at once. ``wire`` is the agent's side of the talk and standard library only.
"""
