"""A worker that explains does not pay for what only training needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = """
import sys
from pathlib import Path

from worker.tensorflow_import import import_tensorflow

import_tensorflow()
import worker.serve.chunk
from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.pipeline import ImageTask, Pipeline
from worker.model.network import load_model

folder, model = map(Path, sys.argv[1:])
with Pipeline() as pipeline:
    task = ImageTask(1, folder / "image.png", folder / "overlay.jpg", "image.png")
    (result,) = pipeline.run(Explainer(*load_model(model)), [task], ExplainOptions(colormap="viridis"))
assert result.overlay is not None, result.error
heavy = {"sklearn", "matplotlib", "pandas", "pyarrow", "pydicom"} & set(sys.modules)
print("loaded:", sorted(heavy))

import matplotlib.pyplot
import sklearn.metrics
"""


def test_explaining_loads_neither_scikit_learn_nor_matplotlib(tmp_path: Path, small_model: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (96, 96), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path, small_model], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "loaded: []" in done.stdout
