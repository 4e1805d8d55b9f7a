"""The workers of one machine: started, pinned to devices, replaced, their lost work requeued, stopped."""
