"""TensorBoard on demand: one process per experiment, behind the API's own sign-in.

``boards`` starts and stops processes, ``event_sync`` writes what they read, ``program`` is the
process, ``admission`` says who gets in, ``proxy`` passes requests on, ``routes`` joins them.
"""
