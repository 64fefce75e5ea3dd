"""PID 1 of every replica: joins the coordinator, runs the ranks, ships what they write.

``python -m quintile_trainer.agent`` in a pod and in a subprocess alike. Standard library only; a
contract test holds its JSON against ``quintile.core.messages``.
"""
