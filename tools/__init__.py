"""What makers of xraycam run, and its users do not."""
