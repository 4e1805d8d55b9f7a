"""The app that `celery -A worker ...` finds."""

import os

import worker.logs  # noqa: F401 - has Celery's logs written as the settings say
from worker.queue.celery_app import create_celery_app
from worker.queue.transport import register_transport
from worker.settings import load_settings

# What Flower shows of a task: what it is, its folder, its chunk, how it stands, when, how long, by whom. Set
# here since Flower reads its settings once it has the app; an environment that says otherwise is left alone.
FLOWER_COLUMNS = "name,args,kwargs,state,received,runtime,worker"
os.environ.setdefault("FLOWER_TASKS_COLUMNS", FLOWER_COLUMNS)

register_transport()
app = create_celery_app(load_settings())
app.set_default()
