"""Open MPI without ssh: what ``mpirun`` and its daemons start instead, and what they must prove.

::

    agent of worker 0            agent of worker i
      mpirun                       orted        <- started for ``remote_shell``, which has the key
        remote_shell  -- TCP -->     rank_door  <- asks the agent for the rank, waits for its end
                                   rank         <- the agent's own child, as in every other mode

Standard library only.
"""
