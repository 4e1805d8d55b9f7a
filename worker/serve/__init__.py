"""What a worker process does with a chunk, and what it keeps between chunks."""
