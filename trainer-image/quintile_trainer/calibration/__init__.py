"""Short measurements of this machine, from which ``quintile plan`` predicts larger runs.

``ranks`` are processes that meet like those of a run, ``steps``, ``sums`` and ``decoding`` measure
in them, ``session`` does it in turns. The program is ``quintile_trainer.calibrate``; benchmarks use
the parts. Nothing here belongs to a run.
"""
