"""The networks that can be trained: what is particular to each. Adding one is one more entry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Scale = Literal["unit", "symmetric", "pixels", "imagenet", "imagenet-bgr"]


@dataclass(frozen=True)
class Architecture:
    """A network of `keras.applications`.

    `constructor`: its name there. `scale`: the input that ImageNet's weights were trained on. `block_ends`:
    a pattern for the names of layers that suit class activation maps. `freeze_until`: a layer about half way,
    behind which a training starts, unless told otherwise; every connection leads through it.
    `last_layer`: that of the last map. `has_alpha`: whether it comes in widths.
    """

    name: str
    constructor: str
    scale: Scale
    block_ends: re.Pattern[str]
    freeze_until: str
    last_layer: str
    sources: str
    has_alpha: bool = False


_ALL = (
    Architecture(
        "mobilenetv2",
        "MobileNetV2",
        "symmetric",
        re.compile(r".*_add|.*_project_BN|out_relu"),
        "block_9_add",
        "out_relu",
        "M. Sandler, A. Howard, M. Zhu, A. Zhmoginov, L.-C. Chen: MobileNetV2: Inverted residuals and "
        "linear\n  bottlenecks. CVPR 2018.",
        has_alpha=True,
    ),
    # It scales pixels itself.
    Architecture(
        "efficientnetv2-b0",
        "EfficientNetV2B0",
        "pixels",
        re.compile(r".*_add|block\da_project_bn|top_activation"),
        "block4c_add",
        "top_activation",
        "M. Tan, Q. V. Le: EfficientNetV2: Smaller models and faster training. ICML 2021.",
    ),
    Architecture(
        "densenet121",
        "DenseNet121",
        "imagenet",
        re.compile(r"pool\d_relu|conv4_block(12|24)_concat|conv5_block(8|16)_concat|relu"),
        "pool3_pool",
        "relu",
        "G. Huang, Z. Liu, L. van der Maaten, K. Q. Weinberger: Densely connected convolutional networks.\n"
        "  CVPR 2017.",
    ),
    Architecture(
        "resnet50",
        "ResNet50",
        "imagenet-bgr",
        re.compile(r"conv\d_block\d_out"),
        "conv4_block2_out",
        "conv5_block3_out",
        "K. He, X. Zhang, S. Ren, J. Sun: Deep residual learning for image recognition. CVPR 2016.",
    ),
    # It scales pixels itself. Its blocks end in sums that have numbers for names.
    Architecture(
        "convnext-tiny",
        "ConvNeXtTiny",
        "pixels",
        re.compile(r"add(_\d+)?|layer_normalization"),
        "convnext_tiny_downsampling_block_1",
        "layer_normalization",
        "Z. Liu, H. Mao, C.-Y. Wu, C. Feichtenhofer, T. Darrell, S. Xie: A ConvNet for the 2020s. CVPR 2022.",
    ),
)

ARCHITECTURES = {one.name: one for one in _ALL}
MOBILENETV2 = ARCHITECTURES["mobilenetv2"]
