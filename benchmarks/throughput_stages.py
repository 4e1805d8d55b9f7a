"""What explaining costs without queue and database, and what it costs the way tutorials do it.

    python benchmarks/throughput_stages.py ../shared/data/shenzhen --model MODEL_FOLDER
    python benchmarks/throughput_stages.py ../shared/data/shenzhen            # random weights

prints images/s of both at the same setting (100x100 input, layer block_7_project) and their ratio.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from worker.explain.explainer import Explainer
from worker.explain.options import ExplainOptions
from worker.explain.overlay import SUFFIXES
from worker.explain.pipeline import ImageResult, ImageTask, Pipeline
from worker.model.metadata import Head
from worker.model.network import build_network, load_model, save_model, spatial_layers

REFERENCE_SIZE = 100
REFERENCE_LAYER = "block_7_project"


def in_process(
    files: Sequence[Path],
    folder_out: Path,
    model_folder: Path,
    *,
    layers: Sequence[str] = (),
    options: ExplainOptions | None = None,
    batch_size: int = 16,
    readers: int = 2,
    renderers: int = 2,
    spent: list[float] | None = None,
) -> float:
    """Images/s of the worker's own stages in this process, warm: read, explain, render, encode, write.

    `spent`: takes the milliseconds of processor time an image.
    """
    options = options or ExplainOptions()
    description, network = load_model(model_folder)
    explainer = Explainer(description, network, layers or options.layers, options.methods)
    suffix = SUFFIXES[options.output_format]
    items = [ImageTask(n, file, folder_out / f"{n:06}{suffix}", file.name) for n, file in enumerate(files)]
    with Pipeline(readers, renderers, batch_size) as pipeline:
        _all_done(pipeline.run(explainer, items[: 2 * batch_size], options))
        start, processor = time.perf_counter(), time.process_time()
        _all_done(pipeline.run(explainer, items, options))
        if spent is not None:
            spent.append(1000 * (time.process_time() - processor) / len(items))
        return len(items) / (time.perf_counter() - start)


def reference_way(files: Sequence[Path], folder_out: Path, model_folder: Path) -> float:
    """Images/s of the way of the usual script: one image at a time, the model rebuilt for each, an eager
    gradient, and the overlay composed pixel by pixel."""
    description, network = load_model(model_folder)
    folder_out.mkdir(parents=True, exist_ok=True)
    _reference_image(files[0], folder_out / "warm.jpg", network, description.preprocessing.size)
    start = time.perf_counter()
    for number, file in enumerate(files):
        _reference_image(file, folder_out / f"{number:06}.jpg", network, description.preprocessing.size)
    return len(files) / (time.perf_counter() - start)


def _reference_image(file: Path, overlay: Path, network: keras.Model, size: int) -> None:
    original = Image.open(file).convert("RGB")
    pixels = np.asarray(original.resize((size, size)), np.float32)
    batch = keras.applications.mobilenet_v2.preprocess_input(pixels[np.newaxis])

    model = keras.Model(network.inputs[0], [network.get_layer(REFERENCE_LAYER).output, network.outputs[0]])
    with tf.GradientTape() as tape:
        activations, scores = model(tf.constant(batch))
        score = scores[:, int(tf.argmax(scores[0]))]
    gradients = tape.gradient(score, activations)
    weights = tf.reduce_mean(gradients, axis=(0, 1, 2))
    heatmap = tf.maximum(tf.reduce_sum(activations[0] * weights, axis=-1), 0)
    heatmap = (heatmap / (tf.reduce_max(heatmap) + 1e-10)).numpy()

    heat = np.asarray(Image.fromarray(heatmap).resize(original.size, Image.Resampling.BILINEAR))
    result = Image.new("RGB", original.size)
    for x in range(original.width):
        for y in range(original.height):
            colour = (255 * heat[y, x], 0, 255 * (1 - heat[y, x]))
            pixel = original.getpixel((x, y))
            mixed = tuple(int(0.5 * gray + 0.5 * hue) for gray, hue in zip(pixel, colour, strict=True))
            result.putpixel((x, y), mixed)
    result.save(overlay)


def random_model(folder: Path, size: int) -> None:
    """A model folder of the full architecture with random weights: right for time, of no use otherwise."""
    keras.utils.set_random_seed(1)
    network = build_network(size, 2, Head())
    layers = spatial_layers(network)
    save_model(
        network,
        folder,
        metadata={
            "version": f"random-{size}",
            "classes": ("Normal", "Tuberculosis"),
            "preprocessing": {"size": size},
            "layers": layers,
            "default_layer": "block_15_add",
            "created": "1970-01-01T00:00:00Z",
        },
    )


def _all_done(outcomes: Iterable[ImageResult]) -> None:
    for outcome in outcomes:
        assert outcome.error is None, outcome.error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of X-rays, searched for *.png")
    parser.add_argument("--model", type=Path, help="model folder; without it random weights at --size")
    parser.add_argument("--size", type=int, default=REFERENCE_SIZE, help="input size of the random model")
    parser.add_argument("--layer", default=REFERENCE_LAYER)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16])
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--renderers", type=int, default=2)
    parser.add_argument("--output-format", choices=list(SUFFIXES), default="jpeg")
    parser.add_argument("--reference-images", type=int, default=5, help="0: leave the reference way out")
    given = parser.parse_args()
    files = sorted(given.folder.rglob("*.png"))[: given.images]
    if not files:
        parser.error(f"{given.folder} holds no *.png")
    scratch = Path(tempfile.mkdtemp(prefix="xraycam-benchmark-"))
    try:
        model = given.model or scratch / "model"
        if given.model is None:
            random_model(model, given.size)
        options = ExplainOptions(output_format=given.output_format)
        best = 0.0
        for batch_size in given.batch_sizes:
            rate = in_process(
                files,
                scratch / "ours",
                model,
                layers=[given.layer],
                options=options,
                batch_size=batch_size,
                readers=given.readers,
                renderers=given.renderers,
            )
            best = max(best, rate)
            print(f"in process, batch {batch_size:3}: {rate:8.1f} images/s", flush=True)
        if given.reference_images:
            rate = reference_way(files[: given.reference_images], scratch / "reference", model)
            print(f"reference way:         {rate:8.2f} images/s\nratio:                 {best / rate:8.0f}")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
