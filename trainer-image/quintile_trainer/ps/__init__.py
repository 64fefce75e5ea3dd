"""Parameter servers: parameters in chunks on several servers, optimizers where the chunks are.

``server.run`` is a rank of role ``ps``; ``client.join`` gives a worker rank its ``Client``, and
``mode.ParameterServers`` makes the training loop's mode of it. Pure parts: ``layout``, ``frames``,
``handshake``, ``clocks``, ``ledger``, ``staleness``, ``job``.

Three promises, each tested:

- *sync equals one program.* Gradients are summed in rank order and the optimizer works element by
  element as torch's does: any number of workers and servers gives the bits of a serial program.
- *A push counts once.* Every chunk remembers the newest push of every worker; a connection that
  breaks is made anew and what was not answered is sent again.
- *A cut is consistent.* A push is in a checkpoint on all servers or on none, and so are the
  positions it was computed from.
"""
