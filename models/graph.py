"""An ONNX graph under construction: opset 21, IR 10; weights are named here and stored beside the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from hil_config.wire.manifest import BLOCK, Precision, Tensor
from models.quantize import halved, matmul_nbits_layout
from models.tensor_file import FloatArray

OPSET = 21
IR_VERSION = 10
MINIMUM_ONNXRUNTIME = "1.23.2"

_DTYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
_BITS = {"int8": 8, "int4": 4}


class Graph:
    """Collects nodes, constants and weights; every method returns the name of its first output.

    A constant is part of the graph. A weight is declared external and handed over in `weights`, so that a
    session can take it from where it lies (see `models.serving.shard_file`). `block`: inputs under one scale.
    """

    def __init__(self, block: int = BLOCK) -> None:
        self._block = block
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: dict[str, onnx.TensorProto] = {}
        self.weights: dict[str, npt.NDArray[Any]] = {}
        self.overridable: list[onnx.ValueInfoProto] = []

    def constant(self, value: npt.NDArray[np.generic] | float | list[int], name: str = "") -> str:
        """A constant; equal ones share an initialiser. Lists are int64 vectors, numbers float32 scalars."""
        if isinstance(value, list):
            array: npt.NDArray[Any] = np.array(value, dtype=np.int64)
        elif isinstance(value, float):
            array = np.array(value, dtype=np.float32)
        else:
            array = np.ascontiguousarray(value)
        tensor = numpy_helper.from_array(array)
        key = name or f"constant_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tobytes().hex()[:64]}"
        tensor.name = key
        known = self.initialisers.setdefault(key, tensor)
        assert known == tensor, f"two constants called {key}"
        return key

    def weight(self, name: str, value: npt.NDArray[Any]) -> str:
        value = np.ascontiguousarray(value)
        proto = TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(value.dtype), dims=value.shape)
        proto.data_location = TensorProto.EXTERNAL
        proto.external_data.add(key="location", value="weights")
        assert name not in self.initialisers, f"two weights called {name}"
        self.initialisers[name] = proto
        self.weights[name] = value
        return name

    def node(self, kind: str, inputs: list[str], outputs: str | list[str], domain: str = "", **attributes: Any) -> str:
        names = [outputs] if isinstance(outputs, str) else outputs
        self.nodes.append(helper.make_node(kind, inputs, names, name=names[0], domain=domain, **attributes))
        return names[0]

    def linear(
        self, x: str, weight: FloatArray, out: str, precision: Precision = "fp32", bias: FloatArray | None = None
    ) -> str:
        """x [rows, inputs] times a weight in disk shape [outputs, inputs], plus a bias [outputs].

        Integer weights are block-wise; accuracy_level 4 quantises inputs per row and block, so rows stay
        independent of each other. fp16 is how weights are stored; onnxruntime widens them once, when it loads.
        """
        product = out if bias is None else out + ".product"
        if precision in _BITS:
            self._nbits(x, weight, product, _BITS[precision])
        elif precision == "fp16":
            narrow = self.weight(out + ".weight", halved(weight.T))
            self.node("Cast", [narrow], out + ".wide", to=TensorProto.FLOAT)
            self.node("MatMul", [x, out + ".wide"], product)
        else:
            self.node("MatMul", [x, self.weight(out + ".weight", weight.T)], product)
        if bias is not None:
            self.node("Add", [product, self.weight(out + ".bias", bias)], out)
        return out

    def _nbits(self, x: str, weight: FloatArray, out: str, bits: int) -> str:
        codes, scales = matmul_nbits_layout(weight, bits, self._block)
        inputs = [x, self.weight(out + ".codes", codes), self.weight(out + ".scales", scales)]
        return self.node(
            "MatMulNBits", inputs, out, domain="com.microsoft",
            K=weight.shape[1], N=weight.shape[0], bits=bits, block_size=self._block, accuracy_level=4,
        )  # fmt: skip

    def rms_norm(self, x: str, weight: FloatArray, epsilon: float, out: str) -> str:
        """x / sqrt(mean(x^2) + epsilon) * weight over the last dimension.

        Spelled out because the RMSNormalization operator needs opset 23; onnxruntime fuses it.
        """
        self.node("Pow", [x, self.constant(2.0)], out + ".square")
        self.node("ReduceMean", [out + ".square", self.constant([-1])], out + ".mean", keepdims=1)
        self.node("Add", [out + ".mean", self.constant(float(np.float32(epsilon)))], out + ".shifted")
        self.node("Sqrt", [out + ".shifted"], out + ".root")
        self.node("Div", [x, out + ".root"], out + ".unit")
        return self.node("Mul", [out + ".unit", self.weight(out + ".weight", weight)], out)

    def layer_norm(self, x: str, weight: FloatArray, bias: FloatArray, epsilon: float, out: str) -> str:
        inputs = [x, self.weight(out + ".weight", weight), self.weight(out + ".bias", bias)]
        return self.node("LayerNormalization", inputs, out, axis=-1, epsilon=epsilon)

    def reshape(self, x: str, shape: tuple[int, ...], out: str) -> str:
        """Reshape to a constant shape; 0 keeps the input's dimension, -1 is inferred."""
        return self.node("Reshape", [x, self.constant(list(shape))], out)

    def scaled(self, x: str, factor: float, out: str) -> str:
        """x times a number; no node where that is 1."""
        return x if factor == 1.0 else self.node("Mul", [x, self.constant(factor)], out)

    def low_rank(self, x: str, base: str, site: str, inputs: int, outputs: int) -> str:
        """base + (x A) B -> `site`, with A [inputs, R] and B [R, outputs] as overridable initialisers of rank 0.

        An adapter feeds `delta_<site>_a` and `delta_<site>_b` to one run; without them the sum is `base`, bit for
        bit (LoRA: arXiv 2106.09685). Measured cost of rank 0: about 1 us a call.
        """
        for name, shape in ((f"delta_{site}_a", (inputs, 0)), (f"delta_{site}_b", (0, outputs))):
            self.constant(np.zeros(shape, dtype=np.float32), name)
            free: list[int | str] = [size or "rank" for size in shape]
            self.overridable.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, free))
        self.node("MatMul", [x, f"delta_{site}_a"], f"{site}.low")
        self.node("MatMul", [f"{site}.low", f"delta_{site}_b"], f"{site}.delta")
        return self.node("Add", [base, f"{site}.delta"], site)

    def model(self, name: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> bytes:
        """The serialised graph; the same calls give the same bytes."""
        values = [*(_value(t) for t in inputs), *self.overridable]
        constants = list(self.initialisers.values())
        graph = helper.make_graph(self.nodes, name, values, [_value(t) for t in outputs], constants)
        opsets = [helper.make_opsetid("", OPSET)]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            opsets.append(helper.make_opsetid("com.microsoft", 1))
        proto = helper.make_model(graph, opset_imports=opsets, producer_name="spacemoe-hil", ir_version=IR_VERSION)
        return bytes(proto.SerializeToString(deterministic=True))


def _value(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, _DTYPES[tensor.dtype], list(tensor.shape))
