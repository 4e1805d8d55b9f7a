"""The ledger: what was asked, what is done, what failed and why, which models exist."""
