"""The Celery app and all that needs TensorFlow: read, explain, render, train."""
