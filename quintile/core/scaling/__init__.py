"""How a training step grows with the number of workers: a model, fitted to a short calibration.

``records`` is what a calibration measures, ``fit`` turns it into a few constants, ``predict`` makes
a curve of them, ``bands`` says how sure it is, ``holdout`` how far off it was on runs it did not
see, ``advice`` puts it into words. ``simulate`` plays single steps, for what has no closed form.

Called by ``quintile plan`` and by the benchmarks. Everything here is arithmetic: no I/O, no clock,
and the same seed gives the same answer. What it says about more workers than were measured is a
prediction, and whoever shows it shows its inputs too.
"""
