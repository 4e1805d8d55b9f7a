"""The app that `celery -A worker ...` finds."""

import worker.logs  # noqa: F401 - has Celery's logs written as the settings say
from worker.queue.celery_app import create_celery_app
from worker.queue.transport import register_transport
from worker.settings import load_settings

register_transport()
app = create_celery_app(load_settings())
app.set_default()
