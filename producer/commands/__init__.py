"""Subcommands, one file each; imported only when they run."""
