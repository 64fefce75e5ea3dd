"""What runs in a worker: the agent, the ranks, training loops, data, and labeling compute.

Importing this package must stay free: the agent (``quintile_trainer.agent``) is built from the
standard library alone and starts in less than 0.3 s.
"""
