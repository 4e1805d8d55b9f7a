"""A training as a task: from its row in the ledger to a published version."""
