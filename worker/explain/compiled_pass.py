"""The compiled pass of an explainer kept as a file: the next process neither imports Keras nor traces.

Only the computation is kept, as TensorFlow's FunctionDef (a protocol buffer, no code of Python); weights
come from the version's checked file each time. A file is of one version, choice of maps, TensorFlow, Keras
and source of ours. It may hold arithmetic alone: with any other operation it is refused. Results are the
same, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np

log = logging.getLogger(__name__)

# Of one version, for the choices of layers and methods made last.
KEPT_FILES = 8
# Whatever the pass is made by lies in these rooms.
_ROOMS = ("explain", "input_check", "keras_import", "model")
LARGEST_FILE = 100_000_000
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ARITHMETIC = frozenset(
    """
    Abs AddN AddV2 ArgMax BatchMatMulV2 BiasAdd BiasAddGrad BroadcastGradientArgs BroadcastTo Cast
    ConcatV2 Const Conv2D Conv2DBackpropFilter Conv2DBackpropInput DepthwiseConv2dNative
    DepthwiseConv2dNativeBackpropFilter DepthwiseConv2dNativeBackpropInput DivNoNan DynamicStitch Einsum
    Exp ExpandDims Fill FloorDiv FloorMod GatherV2 Greater GreaterEqual Identity Less LessEqual MatMul
    Max Maximum Mean Min Minimum Mul Neg NoOp Pack Pad Pow Prod Range ReadVariableOp RealDiv Relu Relu6
    Relu6Grad ReluGrad Reshape Rsqrt SelectV2 SelfAdjointEigV2 Shape ShapeN Sign Size Slice Softmax Sqrt
    Square SquaredDifference Squeeze StridedSlice StridedSliceGrad Sub Sum Svd Tile Transpose
    UnsortedSegmentSum ZerosLike
    """.split()  # noqa: SIM905 - a list of words
)


def key_of(digest: str, choice: Sequence[Any]) -> str:
    """What a file is of, as its name: a hash of the version's digest, the choice, libraries, our sources."""
    ours = Path(__file__).resolve().parents[1]
    files = sorted(file for room in _ROOMS for file in (ours / room).glob("*.py"))
    sources = [[str(file.relative_to(ours)), hashlib.sha256(file.read_bytes()).hexdigest()] for file in files]
    libraries = [version_of(name) for name in ("tensorflow", "keras")]
    text = json.dumps([digest, list(choice), libraries, sources])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def keep(file: Path, compiled: Any, network: Any, panels: Sequence[str]) -> bool:
    """Write the traced function of an explainer with these panels to `file`; whether it could be.

    `compiled`: as `Explainer` makes it, called once at least. `panels`: their names.
    """
    from worker.model.network import named_weights

    concrete = compiled.get_concrete_function()
    # By the names in the file of weights: Keras numbers the paths of variables within a process.
    names = {id(variable.value.handle): name for name, variable in named_weights(network)}
    captures = [names.get(id(handle)) for handle in concrete.captured_inputs]
    function = concrete.function_def
    unknown = {node.op for node in function.node_def} - _ARITHMETIC
    if unknown or None in captures or concrete.graph.as_graph_def().library.function:
        log.info(
            "the compiled pass is not kept: it holds %s", ", ".join(sorted(unknown)) or "more than itself"
        )
        return False
    content = function.SerializeToString()
    head = {"key": file.name, "captures": captures, "panels": sorted(panels)}
    try:
        _write(file, json.dumps(head).encode() + b"\n" + content)
    except (OSError, ValueError) as error:
        log.info("the compiled pass is not kept: %s", error)
        return False
    return True


def _write(file: Path, content: bytes) -> None:
    """Write a file after the SHA-256 of its content, for this user alone; old ones and remains go."""
    file.parent.mkdir(parents=True, exist_ok=True)
    _require_ours(file.parent.lstat(), stat.S_ISDIR)
    unfinished = file.with_name(f".{file.name}-{secrets.token_hex(4)}")
    try:
        handle = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(hashlib.sha256(content).hexdigest().encode() + b"\n" + content)
        unfinished.replace(file)
    except OSError:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    others = sorted(file.parent.glob("[0-9a-f]*"), key=lambda other: other.lstat().st_mtime, reverse=True)
    killed = [other for other in file.parent.glob(".*-*") if other.lstat().st_mtime < time.time() - 3600]
    for other in [*others[KEPT_FILES:], *killed]:
        other.unlink(missing_ok=True)


def _read(file: Path) -> tuple[dict[str, Any], bytes]:
    """Head and function of a file of ours. Raises OSError, ValueError where it is none, or is damaged."""
    _require_ours(file.parent.lstat(), stat.S_ISDIR)
    with os.fdopen(os.open(file, _OPEN), "rb") as stream:
        _require_ours(os.fstat(stream.fileno()), stat.S_ISREG)
        digest, _, content = stream.read(LARGEST_FILE).partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != digest:
        raise ValueError("it is damaged")
    line, _, function = content.partition(b"\n")
    return json.loads(line), function


def _require_ours(status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """Raises ValueError for a link, and for what another user made or may write in."""
    if not is_kind(status.st_mode):
        raise ValueError("it is a link, or not of the kind it should be")
    if status.st_uid != os.geteuid():
        raise ValueError("it belongs to another user")
    # A folder that a group shares is well: only files of ours are read in it.
    if stat.S_ISREG(status.st_mode) and status.st_mode & 0o022:
        raise ValueError("others may write in it")


class KeptPass:
    """The function of a file over weights, called as the one that `Explainer` compiles."""

    def __init__(
        self, content: bytes, head: Mapping[str, Any], arrays: Mapping[str, np.ndarray[Any, Any]]
    ) -> None:
        from tensorflow.core.framework import function_pb2
        from tensorflow.python.eager import context, execute
        from tensorflow.python.framework import constant_op, dtypes, ops
        from tensorflow.python.ops import gen_resource_variable_ops as variables

        function = function_pb2.FunctionDef.FromString(content)
        unknown = {node.op for node in function.node_def} - _ARITHMETIC
        if unknown:
            raise ValueError(f"operations that are no arithmetic: {', '.join(sorted(unknown))}")
        ops.enable_eager_execution()
        self._context = context.context()
        self._context.ensure_initialized()
        self._handles = []
        for path in head["captures"]:
            values = np.asarray(arrays[path], np.float32)
            handle = variables.var_handle_op(
                dtypes.float32, values.shape, shared_name=context.anonymous_name()
            )
            variables.assign_variable_op(handle, constant_op.constant(values))
            self._handles.append(handle)
        # Two passes may live in one process, of versions that differ in their weights alone.
        function.signature.name = f"{function.signature.name}_{secrets.token_hex(4)}"
        self._context.add_function_def(function)
        self._name = function.signature.name.encode()
        self._outputs = len(function.signature.output_arg)
        self._panels = head["panels"]
        self._constant, self._execute = constant_op.constant, execute.execute
        if self._outputs != 4 + 2 * len(self._panels):
            raise ValueError("the number of outputs is not that of the panels")

    def __call__(self, images: Any, targets: Any) -> Any:
        found = self._execute(
            self._name,
            self._outputs,
            inputs=[self._constant(images), self._constant(targets), *self._handles],
            attrs=("executor_type", "", "config_proto", b""),
            ctx=self._context,
        )
        scores, probabilities, explained, *maps, features = found
        pairs = zip(maps[::2], maps[1::2], strict=True)
        return scores, probabilities, explained, dict(zip(self._panels, pairs, strict=True)), {}, features


def load_kept(file: Path, weights: Path, panels: Sequence[str]) -> KeptPass | None:
    """The pass kept in `file`, with the arrays of `weights`; None where there is none that can be used."""
    try:
        from safetensors.numpy import load_file

        head, content = _read(file)
        if head["key"] != file.name or head["panels"] != sorted(panels):
            raise ValueError("it is of something else")
        found = KeptPass(content, head, load_file(weights))
        os.utime(file)
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever it is, the network can be built and traced anew
        log.warning("the compiled pass %s cannot be used, and is made again: %s", file, error)
        return None
    return found
