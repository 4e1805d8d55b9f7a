"""Imported by Python at the start of every process with this folder in PYTHONPATH; the product has no hooks.

SABOTAGE_SECONDS    makes the decoder slow, by so much per image
SABOTAGE_SCAN       makes the listing of folders slow, by so much per PNG file
SABOTAGE_LISTING    a file to make once the first PNG file was listed so slowly
SABOTAGE_CRASH      makes it deadly (`kill`) or endless (`hang`) for an image of 77 x 77 pixels: a stand-in
                    for what native decoders do to malicious files
SABOTAGE_SIGNAL     has a command interrupt itself (SIGINT) at the third call, `call Redis.__del__ 3`,
                    or as a function returns: `return RunIngest.close 1`
SABOTAGE_EXPLAINER  puts an accelerator that is not there in the place of the network: see
                    `stand_in_explainer.py`
SABOTAGE_TRAINING   makes trainings short: see `short_training.py`
SABOTAGE_LIMITS     makes the broker's visibility timeout, and Celery's time limit for a task, so many seconds
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from pathlib import Path

STAND_INS = {
    "worker.explain.explainer": "stand_in_explainer.py",
    "worker.model.network": "stand_in_network.py",
    "worker.tensorflow_import": "stand_in_tensorflow.py",
}


class StandIns(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in STAND_INS:
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name(STAND_INS[name]))


class Changed(importlib.abc.MetaPathFinder):
    """Calls a function with each of some modules as soon as it is there."""

    def __init__(self, changes):
        self._changes = changes

    def find_spec(self, name, path=None, target=None):
        if name not in self._changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_change(module):
            execute(module)
            self._changes[name](module)

        spec.loader.exec_module = execute_and_change
        return spec


def short_training():
    spec = importlib.util.spec_from_file_location(
        "short_training", Path(__file__).parents[1] / "short_training.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.CHANGES


def limit(module):
    module.VISIBILITY_SECONDS = module.TASK_SECONDS = int(os.environ["SABOTAGE_LIMITS"])


def sabotage_decoder():
    from kornia_rs import io as rust
    from PIL import Image

    def suffer(size):
        time.sleep(float(os.environ.get("SABOTAGE_SECONDS", "0")))
        if size == (77, 77):
            if os.environ.get("SABOTAGE_CRASH") == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            while os.environ.get("SABOTAGE_CRASH") == "hang":
                time.sleep(1)

    image_open, decode = Image.open, rust.decode_image_png_u8

    def sabotaged(*arguments, **options):
        image = image_open(*arguments, **options)
        suffer(image.size)
        return image

    def sabotaged_decode(content, shape, mode):
        suffer((shape[1], shape[0]))
        return decode(content, shape, mode)

    Image.open, rust.decode_image_png_u8 = sabotaged, sabotaged_decode


class SlowListing:
    def __init__(self, path="."):
        self._entries = SCANDIR(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._entries.close()

    def __iter__(self):
        return self

    def __next__(self):
        entry = next(self._entries)
        if str(entry.name).endswith(".png"):
            if "SABOTAGE_LISTING" in os.environ:
                Path(os.environ["SABOTAGE_LISTING"]).touch()
            time.sleep(float(os.environ["SABOTAGE_SCAN"]))
        return entry


def interrupt_at(event, name, count):
    seen = 0

    def look(frame, what, _):
        nonlocal seen
        if what == event and frame.f_code.co_qualname == name:
            seen += 1
            if seen == int(count):
                sys.setprofile(None)
                os.kill(os.getpid(), signal.SIGINT)

    sys.setprofile(look)


if "SABOTAGE_SIGNAL" in os.environ:
    interrupt_at(*os.environ["SABOTAGE_SIGNAL"].split())
if "SABOTAGE_SCAN" in os.environ:
    SCANDIR, os.scandir = os.scandir, SlowListing
if "SABOTAGE_EXPLAINER" in os.environ:
    sys.meta_path.insert(0, StandIns())
if "SABOTAGE_TRAINING" in os.environ:
    sys.meta_path.insert(0, Changed(short_training()))
if "SABOTAGE_LIMITS" in os.environ:
    sys.meta_path.insert(0, Changed({"worker.queue.celery_app": limit}))
if "SABOTAGE_SECONDS" in os.environ or "SABOTAGE_CRASH" in os.environ:
    sabotage_decoder()
