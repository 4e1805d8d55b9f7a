"""The task queue: Celery's setup, the messages and their checks, and the broker."""
