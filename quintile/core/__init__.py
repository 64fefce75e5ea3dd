"""The pure core: wire models, names, decisions. No I/O, no clock, no logging."""
