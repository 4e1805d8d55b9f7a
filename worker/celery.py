"""The app that `celery -A worker ...` finds."""

from worker.queueing import make_app
from worker.settings import load_settings

app = make_app(load_settings())
app.set_default()
