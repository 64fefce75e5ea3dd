"""What people and programs read: items, reasons, statistics, certificates."""
