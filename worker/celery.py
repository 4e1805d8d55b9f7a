"""The app that `celery -A worker ...` finds."""

import worker.logs  # noqa: F401 - has Celery's logs written as the settings say
from worker.queue.celery_app import make_app
from worker.queue.transport import install
from worker.settings import load_settings

install()
app = make_app(load_settings())
app.set_default()
