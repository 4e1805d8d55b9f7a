"""Imported by Python at the start of every process that has this folder in PYTHONPATH.

Makes the broker's visibility timeout, and Celery's time limit for a task, a few seconds.
"""

import os

if "SHORT_LIMIT_SECONDS" in os.environ:
    import worker.queue.celery_app

    worker.queue.celery_app.VISIBILITY_SECONDS = worker.queue.celery_app.TASK_SECONDS = int(
        os.environ["SHORT_LIMIT_SECONDS"]
    )
