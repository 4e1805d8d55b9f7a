"""Calculations on tensors that Keras keeps in a graph, and the layers that do the same."""

from __future__ import annotations

from typing import Any

from worker.errors import ModelError
from worker.file_names import printable
from worker.keras_import.config import LAYERS, checked_settings

OPERATIONS = frozenset({"Add", "Subtract", "Multiply", "TrueDivide", "Divide"})
FUNCTIONS = {
    "Softmax": "softmax", "Sigmoid": "sigmoid", "Relu": "relu", "Relu6": "relu6", "Silu": "silu",
    "HardSigmoid": "hard_sigmoid", "HardSilu": "hard_silu", "Tanh": "tanh",
}  # fmt: skip
# Those of Keras 2: TensorFlow's functions by name.
_OF_TENSORFLOW = {
    "__operators__.add": "Add", "math.add": "Add", "math.subtract": "Subtract", "math.multiply": "Multiply",
    "math.truediv": "TrueDivide", "math.divide": "Divide", "nn.relu": "Relu", "nn.relu6": "Relu6",
    "nn.softmax": "Softmax", "math.sigmoid": "Sigmoid", "nn.silu": "Silu", "math.tanh": "Tanh",
}  # fmt: skip
KERAS_2_CLASS = "TFOpLambda"
# The name of the second argument of TensorFlow's functions of two.
SECOND = "y"


def name_in_keras_3(settings: dict[str, Any], where: str) -> str:
    """What Keras 3 calls the calculation that a `TFOpLambda` of Keras 2 is. Raises ModelError."""
    function = settings.get("function")
    if isinstance(function, str) and function in _OF_TENSORFLOW:
        return _OF_TENSORFLOW[function]
    raise ModelError(
        f"{where} is the calculation {printable(str(function))[:60]}, which cannot be imported: take "
        "calculations such as preprocess_input out of the model and say them by --preprocessing"
    )


def operation(kind: str, inputs: list[Any], constants: list[Any], where: str) -> tuple[str, dict[str, Any]]:
    """The class and settings of the layer that does as `kind` with tensors `inputs` and numbers `constants`.
    Raises ModelError where there is none."""
    if kind in FUNCTIONS and len(inputs) == 1 and not constants:
        return "Activation", {"activation": FUNCTIONS[kind]}
    if kind not in OPERATIONS or len(constants) > 1:
        raise ModelError(f"{where} is the calculation {kind}, which cannot be imported; use a layer of Keras")
    if not constants:
        if kind in ("TrueDivide", "Divide") or len(inputs) != 2:
            raise ModelError(f"{where} divides tensors, which cannot be imported; use a layer of Keras")
        return kind, {}
    if len(inputs) != 1:
        raise ModelError(f"{where} has {len(inputs)} inputs beside a number; one is needed")
    place, number = constants[0]
    if (place == 0 and kind in ("TrueDivide", "Divide")) or (number == 0 and "Divide" in kind):
        raise ModelError(f"{where} divides by a tensor or by 0, which cannot be imported")
    scale, offset = {
        "Add": (1.0, number),
        "Subtract": (1.0, -number) if place else (-1.0, number),
        "Multiply": (number, 0.0),
    }.get(kind, (1.0 / number if number else 1.0, 0.0))
    return "Rescaling", checked_settings("Rescaling", {"scale": scale, "offset": offset}, where)


def is_operation(kind: str, module: str, constants: list[Any]) -> bool:
    """Whether a layer of this class is a calculation; an `.h5` file does not say the `module`."""
    calculation = bool(constants) or (kind not in LAYERS and kind in {*OPERATIONS, *FUNCTIONS})
    return module.startswith("keras.src.ops") or (not module and calculation)
