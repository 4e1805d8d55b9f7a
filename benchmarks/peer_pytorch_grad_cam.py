"""The same work by pytorch-grad-cam, files in and overlays out; of an environment of its own, see `peers`.

    python peer_pytorch_grad_cam.py FOLDER SIZE BATCH last|middle

MobileNetV2 of random weights, which are right for time. Prints images/s and ms of processor time an image.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import preprocess_image, show_cam_on_image


def main() -> None:
    folder, size, batch, layer = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model = torchvision.models.mobilenet_v2(weights=None)
    model.classifier = torch.nn.Linear(1280, 2)
    model.eval()
    # What Keras calls out_relu and block_7_add.
    cam = GradCAM(model=model, target_layers=[model.features[-1 if layer == "last" else 8]])
    files = sorted(str(file) for file in Path(folder).rglob("*.png"))
    with tempfile.TemporaryDirectory() as out:
        explain(cam, files[: 2 * batch], size, batch, out)
        started, processor = time.perf_counter(), time.process_time()
        explain(cam, files, size, batch, out)
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
    print(len(files) / seconds, 1000 * processor / len(files))


def explain(cam: GradCAM, files: list[str], size: int, batch: int, out: str) -> None:
    """As the library's own example does it, over batches."""
    for start in range(0, len(files), batch):
        names = files[start : start + batch]
        images = [cv2.imread(name)[..., ::-1] for name in names]
        pixels = [np.float32(cv2.resize(image, (size, size))) / 255 for image in images]
        inputs = torch.cat([preprocess_image(part, mean=[0.5] * 3, std=[0.5] * 3) for part in pixels])
        maps = cam(input_tensor=inputs, targets=None)
        for image, heat, name in zip(images, maps, names, strict=True):
            large = cv2.resize(heat, image.shape[1::-1])
            overlay = show_cam_on_image(np.float32(image) / 255, large, use_rgb=True)
            file = os.path.join(out, Path(name).stem + ".jpg")  # noqa: PTH118 - timed, as people write it
            cv2.imwrite(file, overlay[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
