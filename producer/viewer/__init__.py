"""Looking at runs: a report that opens from disk, and a server for those too large for one."""
