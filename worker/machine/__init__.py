"""The workers of one machine: started, pinned to devices, replaced, swept up after, stopped."""
