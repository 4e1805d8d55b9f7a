"""A process that explains pays for TensorFlow, and for nothing that it does not use."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
from worker.tensorflow_import import import_tensorflow
import_tensorflow()
import worker.serve.chunk
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.blending import lookup_table
from worker.explain.names import COLORMAPS
from worker.model.network import load_model
import numpy as np
metadata, network = load_model(Path(sys.argv[1]))
side = metadata.preprocessing.size
pixels = np.random.default_rng(1).integers(0, 256, (2, side, side), dtype=np.uint8)
found = Explainer(metadata, network, (), ()).explain(pixels, [-1, -1])
assert found.scores.shape == (2, len(metadata.classes))
for name in COLORMAPS:
    lookup_table(name)
print("loaded:", sorted({"sklearn", "matplotlib", "pandas"} & set(sys.modules)))
import matplotlib.pyplot, sklearn.metrics  # what is hidden from Keras is there for whoever needs it
"""


def test_explaining_loads_neither_scikit_learn_nor_matplotlib_nor_pandas(model_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model_folder)],
        capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_what_native_code_writes_stays_off_the_screen_and_what_python_says_does_not() -> None:
    code = (
        "import os, sys\n"
        "from worker.settings import load_settings\n"
        "from worker.tensorflow_import import quiet_tensorflow\n"
        "with quiet_tensorflow(load_settings()):\n"
        "    os.write(2, b'native words')\n"
        "    print('python words', file=sys.stderr)\n"
        "    if len(sys.argv) > 1:\n"
        "        raise RuntimeError('a fault of ours')\n"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code, *more], capture_output=True, text=True, check=False)
        for more in ((), ("fail",))
    ]
    assert runs[0].returncode == 0
    assert runs[0].stderr == "python words\n"
    assert runs[1].returncode == 1
    assert "native words" in runs[1].stderr
    assert "RuntimeError: a fault of ours" in runs[1].stderr
