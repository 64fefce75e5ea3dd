"""Parameter servers: parameters in chunks on several servers, optimizers where the chunks are.

``server.run`` is a rank of role ``ps``; ``client.join`` gives a worker rank its ``Client``. Pure
parts: ``layout``, ``frames``, ``handshake``, ``clocks``, ``ledger``, ``staleness``, ``job``.
"""
