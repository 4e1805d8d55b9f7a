"""The command line: scan a folder, enqueue it, watch it, query it, report on it."""
