"""Imported by Python at the start of every process that has this folder in PYTHONPATH.

Makes the decoder slow (SABOTAGE_SECONDS per image), or, for an image of 77 x 77 pixels, deadly
(SABOTAGE_POISON=kill) or endless (SABOTAGE_POISON=hang). A stand-in for what native decoders do to
malicious files; the product has no such hook.
"""

import os
import signal
import time

if any(name.startswith("SABOTAGE_") for name in os.environ):
    from PIL import Image

    _open = Image.open

    def sabotaged(*arguments, **options):
        image = _open(*arguments, **options)
        time.sleep(float(os.environ.get("SABOTAGE_SECONDS", "0")))
        if image.size == (77, 77):
            if os.environ.get("SABOTAGE_POISON") == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            while os.environ.get("SABOTAGE_POISON") == "hang":
                time.sleep(1)
        return image

    Image.open = sabotaged
