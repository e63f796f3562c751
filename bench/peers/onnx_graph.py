"""Writes the encoder as ONNX with the operations that ONNX Runtime fuses best: SimplifiedLayerNormalization,
RotaryEmbedding, the Attention of opset 23, QuickGelu, one matmul for query, key and value."""
import math

import numpy as np
import onnx
from onnx import TensorProto, helper


class Weights:
    """The constants of all graphs in one external data file; a name is written once."""

    def __init__(self, directory, file):
        self.file, self.out, self.at, self.tensors = file, open(directory / file, "wb"), 0, {}

    def const(self, name, make):
        if name not in self.tensors:
            a = np.ascontiguousarray(make())
            if a.nbytes < 1024:
                self.tensors[name] = onnx.numpy_helper.from_array(a, name)
                return self.tensors[name]
            self.at += -self.at % 4096
            t = onnx.TensorProto(name=name, data_type=helper.np_dtype_to_tensor_dtype(a.dtype), dims=a.shape, data_location=onnx.TensorProto.EXTERNAL)
            for key, value in (("location", self.file), ("offset", self.at), ("length", a.nbytes)):
                t.external_data.add(key=key, value=str(value))
            self.out.seek(self.at)
            self.out.write(a.tobytes())
            self.at += a.nbytes
            self.tensors[name] = t
        return self.tensors[name]


class Graph:
    def __init__(self, ckpt, weights, int8):
        self.ckpt, self.weights, self.int8 = ckpt, weights, int8
        self.nodes, self.used = [], {}

    def const(self, name, make):
        self.used[name] = self.weights.const(name, make)
        return name

    def op(self, kind, *inputs, domain="", outputs=1, **attributes):
        names = [f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, f"{kind}_{len(self.nodes)}", domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def array(self, *names):
        return np.concatenate([self.ckpt.tensor(n).float().numpy() for n in names])

    def linear(self, x, *names):
        """One matmul for the concatenation of several Linear layers."""
        weight = lambda: self.array(*(n + ".weight" for n in names)).T
        bias = ""
        if names[0] + ".bias" in self.ckpt:
            bias = self.const(names[0] + ".bias", lambda: self.array(*(n + ".bias" for n in names)))
        if self.int8:
            return self.int8_matmul(x, names[0], weight, bias)
        y = self.op("MatMul", x, self.const(names[0] + ".weight", weight))
        return self.op("Add", y, bias) if bias else y

    def int8_matmul(self, x, name, weight, bias):
        """Dynamic u8 activations by s8 weights with a scale a channel: what ONNX Runtime's quantize_dynamic and fusions make."""
        scale = lambda: np.abs(weight()).max(0) / 127
        quantized = lambda: np.clip(np.rint(weight() / scale()), -127, 127).astype(np.int8)
        inputs = [x, self.const(name + ".weight", quantized), self.const(name + ".scale", scale),
                  self.const(name + ".zero", lambda: np.zeros(scale().shape, np.int8))]
        return self.op("DynamicQuantizeMatMul", *inputs, *([bias] if bias else []), domain="com.microsoft")

    def norm(self, x, name):
        weight = self.const(name + ".weight", lambda: self.array(name + ".weight"))
        return self.op("SimplifiedLayerNormalization", x, weight, axis=-1, epsilon=self.ckpt.eps, stash_type=1)

    def save(self, path, result, masked):
        self.nodes.append(helper.make_node("Identity", [result], ["last_hidden_state"]))
        inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])]
        if masked:
            inputs.append(helper.make_tensor_value_info("bias", TensorProto.FLOAT, ["batch", 1, 1, "length"]))
        outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "length", self.ckpt.hidden])]
        graph = helper.make_graph(self.nodes, "encoder", inputs, outputs, list(self.used.values()))
        opsets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=11), path)


def encoder(ckpt, weights, masked, int8, path):
    g = Graph(ckpt, weights, int8)
    cos, sin = (g.const(n, t.float().numpy) for n, t in zip(("cos", "sin"), ckpt.rope()))
    x = g.op("Gather", g.const("embeddings", lambda: g.array("embeddings.word_embeddings.weight")), "input_ids")
    length = g.op("Shape", "input_ids", start=1, end=2)
    positions = g.op("Range", g.const("zero", lambda: np.array(0, np.int64)), g.op("Squeeze", length), g.const("one", lambda: np.array(1, np.int64)))
    positions = g.op("Unsqueeze", positions, g.const("axis", lambda: np.array([0], np.int64)))
    positions = g.op("Expand", positions, g.op("Shape", "input_ids"))
    mask = []
    if masked:
        batch = g.op("Shape", "input_ids", start=0, end=1)
        mask = [g.op("Expand", "bias", g.op("Concat", batch, g.const("ones", lambda: np.array([1], np.int64)), length, length, axis=0))]
    kv = ckpt.kv_heads * ckpt.head_dim
    split = g.const("split", lambda: np.array([ckpt.hidden, kv, kv], np.int64))
    rope = dict(domain="com.microsoft", interleaved=0, rotary_embedding_dim=0)
    for i in range(ckpt.layers):
        name = f"encoder.layer.{i}."
        h = g.norm(x, name + "attention.ln")
        q, k, v = g.op("Split", g.linear(h, *(name + "attention.self." + n for n in ("query", "key", "value"))), split, axis=-1, outputs=3)
        q = g.op("RotaryEmbedding", q, positions, cos, sin, num_heads=ckpt.heads, **rope)
        k = g.op("RotaryEmbedding", k, positions, cos, sin, num_heads=ckpt.kv_heads, **rope)
        o = g.op("Attention", q, k, v, *mask, q_num_heads=ckpt.heads, kv_num_heads=ckpt.kv_heads, is_causal=0, scale=1 / math.sqrt(ckpt.head_dim))
        x = g.op("Add", x, g.linear(o, name + "attention.output.dense"))
        h = g.norm(x, name + "ln")
        gate = g.op("QuickGelu", g.linear(h, name + "mlp.gate_proj"), domain="com.microsoft", alpha=1.0)     # alpha 1: SiLU
        x = g.op("Add", x, g.linear(g.op("Mul", gate, g.linear(h, name + "mlp.up_proj")), name + "mlp.down_proj"))
    g.save(path, g.norm(x, "encoder.ln"), masked)


def write(ckpt, directory, int8):
    """plain.onnx (input_ids), masked.onnx (input_ids, bias [B, 1, 1, S]) and their common weights.data."""
    weights = Weights(directory, "weights.data")
    for masked in (False, True):
        encoder(ckpt, weights, masked, int8, directory / ("masked.onnx" if masked else "plain.onnx"))
    weights.out.close()
