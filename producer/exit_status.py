"""What the exit status of `xraycam` says, beside 0 for success and 1 for a fault of ours."""

USAGE_ERROR = 2  # or a server that does not answer; click's own status for a wrong option
SOME_FAILED = 3
INTERRUPTED = 130
