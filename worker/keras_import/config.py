"""The layers, activations and settings that are known, and the check of each value: the only way from a
configuration to a Keras layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from worker.errors import ModelError
from worker.file_names import printable

Check = Callable[[Any], Any]

ACTIVATIONS = frozenset(
    {
        "linear", "relu", "relu6", "sigmoid", "softmax", "tanh", "elu", "selu", "silu", "swish",
        "gelu", "hard_sigmoid", "hard_silu", "hard_swish", "leaky_relu", "softplus", "softsign",
        "exponential", "mish",
    }
)  # fmt: skip

# What acts in training alone passes its input on when an image is explained.
IN_TRAINING_ONLY = frozenset(
    {
        "Dropout", "SpatialDropout2D", "GaussianDropout", "AlphaDropout", "GaussianNoise",
        "ActivityRegularization", "StochasticDepth", "RandomFlip", "RandomRotation", "RandomZoom",
        "RandomContrast", "RandomTranslation", "RandomBrightness", "Identity",
    }
)  # fmt: skip


def _whole(least: int, greatest: int) -> Check:
    def check(value: Any) -> int:
        if type(value) is not int or not least <= value <= greatest:
            raise ValueError(f"must be a whole number from {least} to {greatest:,}")
        return value

    return check


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError("must be a number up to 1e9")
    return float(value)


def _optional(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _yes_or_no(value: Any) -> bool:
    if type(value) is not bool:
        raise ValueError("must be true or false")
    return value


def _one_of(*known: Any) -> Check:
    def check(value: Any) -> Any:
        if not any(type(value) is type(one) and value == one for one in known):
            raise ValueError(f"must be {' or '.join(repr(one) for one in known)}")
        return value

    return check


def _list(check: Check, longest: int) -> Check:
    def checked(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple) or not 1 <= len(value) <= longest:
            raise ValueError(f"must be a list of 1 to {longest} values")
        return [check(one) for one in value]

    return checked


def _either(single: Check, longest: int) -> Check:
    many = _list(single, longest)
    return lambda value: many(value) if isinstance(value, list | tuple) else single(value)


def _pair(least: int, greatest: int) -> Check:
    return _either(_whole(least, greatest), 2)


def _numbers(value: Any) -> Any:
    """A number, or numbers per channel, in lists of one entry as NumPy's broadcasting writes them."""
    while isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    return _either(_number, 65536)(value)


def _edges(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        return _list(_list(_whole(0, 1024), 2), 2)(value)
    return _pair(0, 1024)(value)


def _activation(value: Any) -> str:
    if value is None:
        return "linear"
    if not isinstance(value, str) or value not in ACTIVATIONS:
        what = value if isinstance(value, str) else "of its own"
        raise ValueError(f"{printable(what)[:60]!r} is none of {', '.join(sorted(ACTIVATIONS))}")
    return value


_AXIS = _either(_whole(-4, 3), 1)
_LAST = _one_of("channels_last", None)
_WINDOW: dict[str, Check] = {
    "kernel_size": _pair(1, 64),
    "strides": _pair(1, 64),
    "padding": _one_of("same", "valid"),
    "data_format": _LAST,
    "dilation_rate": _pair(1, 64),
    "activation": _activation,
    "use_bias": _yes_or_no,
}
_POOL: dict[str, Check] = {
    "pool_size": _pair(1, 256),
    "strides": _optional(_pair(1, 256)),
    "padding": _one_of("same", "valid"),
    "data_format": _LAST,
}
_GLOBAL: dict[str, Check] = {"data_format": _LAST, "keepdims": _yes_or_no}
_CHANNELS = _whole(1, 65536)
_NORM: dict[str, Check] = {
    "axis": _AXIS,
    "epsilon": _number,
    "center": _yes_or_no,
    "scale": _yes_or_no,
}

LAYERS: dict[str, dict[str, Check]] = {
    "Conv2D": {**_WINDOW, "filters": _CHANNELS, "groups": _CHANNELS},
    "DepthwiseConv2D": {**_WINDOW, "depth_multiplier": _whole(1, 256)},
    "SeparableConv2D": {**_WINDOW, "filters": _CHANNELS, "depth_multiplier": _whole(1, 256)},
    "Dense": {"units": _CHANNELS, "activation": _activation, "use_bias": _yes_or_no},
    "BatchNormalization": _NORM,
    "LayerNormalization": {**_NORM, "rms_scaling": _one_of(False)},
    "Normalization": {
        # Keras writes none as an empty list: one mean of all values.
        "axis": lambda value: None if value == [] else _optional(_AXIS)(value),
        "mean": _optional(_numbers),
        "variance": _optional(_numbers),
        "invert": _one_of(False),
    },
    "Rescaling": {"scale": _numbers, "offset": _numbers},
    "Activation": {"activation": _activation},
    "ReLU": {"max_value": _optional(_number), "negative_slope": _number, "threshold": _number},
    "LeakyReLU": {"negative_slope": _number},
    "PReLU": {"shared_axes": _optional(_list(_whole(1, 3), 3))},
    "ELU": {"alpha": _number},
    "Softmax": {"axis": _AXIS},
    "MaxPooling2D": _POOL,
    "AveragePooling2D": _POOL,
    "GlobalAveragePooling2D": _GLOBAL,
    "GlobalMaxPooling2D": _GLOBAL,
    "ZeroPadding2D": {"padding": _edges, "data_format": _LAST},
    "Cropping2D": {"cropping": _edges, "data_format": _LAST},
    "UpSampling2D": {
        "size": _pair(1, 64),
        "data_format": _LAST,
        "interpolation": _one_of("nearest", "bilinear"),
    },
    "Flatten": {"data_format": _LAST},
    "Reshape": {"target_shape": _list(_whole(-1, 10_000_000), 4)},
    "Add": {},
    "Subtract": {},
    "Multiply": {},
    "Average": {},
    "Maximum": {},
    "Concatenate": {"axis": _whole(-4, 3)},
    "Identity": {},
    # Ours, see `layers.py`.
    "LayerScale": {"projection_dim": _CHANNELS},
    "FirstChannel": {},
    "TwoScores": {},
}

_WHAT_TO_DO = {
    "Lambda": "it holds code; use --preprocessing or layers of Keras instead, and save again",
    "SlicingOpLambda": "take calculations such as preprocess_input out of the model and say them by "
    "--preprocessing",
}

# Settings of layers that do not change what a trained layer puts out.
_WITHOUT_EFFECT = frozenset(
    {
        "name", "trainable", "batch_input_shape", "batch_shape", "momentum", "seed", "noise_shape",
        "rate", "renorm_clipping", "renorm_momentum", "init_values", "input_dim", "input_length",
    }
)  # fmt: skip
# Settings that are known at one value only.
_ONLY: dict[str, tuple[Any, ...]] = {
    "renorm": (False, None),
    "synchronized": (False, True, None),
    "fused": (True, False, None),
    "virtual_batch_size": (None,),
    "adjustment": (None,),
    "quantization_config": (None,),
    "lora_rank": (None,),
    "lora_alpha": (None,),
    "activity_regularizer": (None,),
    "groups": (1,),
}


def check_class(name: Any, where: str) -> str:
    """`name` where it is a known layer's. Raises ModelError, with what to do."""
    if isinstance(name, str) and (name in LAYERS or name in IN_TRAINING_ONLY):
        return name
    shown = printable(str(name))[:60]
    todo = _WHAT_TO_DO.get(shown, "build the model of layers that are known, see docs/own-models.md")
    raise ModelError(f"{where} is a {shown}, which cannot be imported: {todo}")


def checked_settings(kind: str, config: Any, where: str, keras: int = 3) -> dict[str, Any]:
    """The arguments that build the layer, of plain numbers, words and lists; all else is dropped where it has
    no effect and refused where it has. Raises ModelError."""
    if not isinstance(config, dict):
        raise ModelError(f"{where} has no settings; the file is damaged")
    if kind in IN_TRAINING_ONLY:
        return {}
    known = LAYERS[kind]
    settings = {}
    for key, value in config.items():
        name = "negative_slope" if kind == "LeakyReLU" and key == "alpha" else key
        try:
            if name in known:
                settings[name] = known[name](value)
            else:
                _check_without_effect(name, value)
        except ValueError as error:
            raise ModelError(f"{where}: {printable(str(key))[:60]} {error}") from None
    if keras < 3 and settings.get("activation") in ("hard_sigmoid",):
        raise ModelError(f"{where}: hard_sigmoid of Keras 2 is another function than that of Keras 3")
    return settings


def _check_without_effect(key: str, value: Any) -> None:
    if key in _WITHOUT_EFFECT or key.endswith(("_initializer", "_regularizer", "_constraint")):
        return
    if key == "dtype":
        if "int" in str(value) or "float8" in str(value):
            raise ValueError("is quantised; save the model before quantising it")
        return
    if key not in _ONLY:
        raise ValueError("is a setting that is not known; save the model with a current version of Keras")
    if value not in _ONLY[key]:
        raise ValueError(f"must be {_ONLY[key][0]!r}")
