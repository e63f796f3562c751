"""The encoder of RetrievaBERT in PyTorch, with the weights of a checkpoint such as `bertc init` writes."""
import hashlib
import json
import pathlib
import re

import torch
import torch.nn.functional as F
from torch import nn

# What this encoder and the ONNX graph know how to compute.
SUPPORTED = dict(norm_type="rmsnorm", position_embedding_type="rope", hidden_act="silu")


class Checkpoint:
    """config.json and the tensors of a model directory, by their names without "bert."."""

    def __init__(self, directory):
        from safetensors import safe_open   # not needed without a checkpoint

        self.dir = pathlib.Path(directory)
        self.configure(json.loads((self.dir / "config.json").read_text()))
        self.shards = {}
        for path in sorted(self.dir.glob("*.safetensors")):
            shard = safe_open(path, "pt")
            self.shards.update((name.removeprefix("bert."), (shard, name)) for name in shard.keys())

    def configure(self, config):
        self.config = config
        for field, value in SUPPORTED.items():
            if config.get(field, value) != value:
                raise SystemExit(f"config.json: {field} is {config[field]!r}, the peers' model knows only {value!r}")
        self.heads = self.config["num_attention_heads"]
        self.kv_heads = self.config["num_key_value_heads"]
        self.hidden = self.config["hidden_size"]
        self.head_dim = self.hidden // self.heads
        self.layers = self.config["num_hidden_layers"]
        self.eps = self.config["layer_norm_eps"]

    def __contains__(self, name):
        return name in self.shards

    def tensor(self, name):
        if name not in self.shards:
            raise SystemExit(f"{self.dir}: no tensor {name!r}, with or without \"bert.\"")
        shard, stored = self.shards[name]
        return shard.get_tensor(stored)

    def rope(self):
        """cos and sin [positions, head_dim / 2], float64."""
        freq = self.config.get("rope_theta", 10000.0) ** -(torch.arange(0, self.head_dim, 2, dtype=torch.float64) / self.head_dim)
        angle = torch.outer(torch.arange(self.config["max_position_embeddings"], dtype=torch.float64), freq)
        return angle.cos(), angle.sin()

    def fingerprint(self):
        """Names converted models: another checkpoint, or the same one written again, has another."""
        files = [f"{p.name} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in sorted(self.dir.glob("*.safetensors"))]
        return hashlib.sha256("\n".join([json.dumps(self.config), *files]).encode()).hexdigest()[:12]


class Random(Checkpoint):
    """Random numbers in the place of a checkpoint: the speed does not depend on them."""

    def __init__(self, config, device):
        self.configure(config)
        self.device = device
        hidden, inner, kv = self.hidden, config["intermediate_size"], self.kv_heads * self.head_dim
        self.shapes = {
            "embeddings.word_embeddings": (config["vocab_size"], hidden), "attention.ln": (hidden,), "ln": (hidden,), "encoder.ln": (hidden,),
            "attention.self.query": (hidden, hidden), "attention.self.key": (kv, hidden), "attention.self.value": (kv, hidden),
            "attention.output.dense": (hidden, hidden), "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner),
        }

    def __contains__(self, name):
        return not name.endswith(".bias") or self.config["mlp_bias" if ".mlp." in name else "attention_bias"]

    def tensor(self, name):
        path, kind = re.sub(r"encoder\.layer\.\d+\.", "", name).rsplit(".", 1)
        shape = self.shapes[path]
        if kind == "weight" and len(shape) == 1:
            return torch.ones(shape, device=self.device)
        return 0.05 * torch.randn(shape[:1] if kind == "bias" else shape, device=self.device)


def compiled(encoder):
    """The encoder through inductor with frozen weights, compiled for each shape."""
    from torch import _dynamo, _inductor
    _inductor.config.freezing = True
    _dynamo.config.recompile_limit = 64
    return torch.compile(encoder, dynamic=False, fullgraph=True)


def linear(ckpt, name, dtype):
    w = ckpt.tensor(name + ".weight").to(dtype)
    m = nn.Linear(w.shape[1], w.shape[0], bias=name + ".bias" in ckpt, device="meta")
    m.weight = nn.Parameter(w, requires_grad=False)
    if m.bias is not None:
        m.bias = nn.Parameter(ckpt.tensor(name + ".bias").to(dtype), requires_grad=False)
    return m


class Norm(nn.Module):
    def __init__(self, ckpt, name, dtype):
        super().__init__()
        self.weight = nn.Parameter(ckpt.tensor(name + ".weight").to(dtype), requires_grad=False)
        self.eps = ckpt.eps

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Layer(nn.Module):
    def __init__(self, ckpt, index, dtype, repeat_kv):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.repeat_kv = ckpt.heads, ckpt.kv_heads, ckpt.head_dim, repeat_kv
        name = f"encoder.layer.{index}."
        self.attention_norm = Norm(ckpt, name + "attention.ln", dtype)
        self.query, self.key, self.value = (linear(ckpt, name + "attention.self." + k, dtype) for k in ("query", "key", "value"))
        self.output = linear(ckpt, name + "attention.output.dense", dtype)
        self.mlp_norm = Norm(ckpt, name + "ln", dtype)
        self.gate, self.up, self.down = (linear(ckpt, f"{name}mlp.{k}_proj", dtype) for k in ("gate", "up", "down"))

    def attention(self, h, bias, cos, sin):
        batch, length, hidden = h.shape
        q = self.query(h).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
        k = self.key(h).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.value(h).view(batch, length, self.kv_heads, self.head_dim).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.repeat_kv:
            k, v = (x.repeat_interleave(self.heads // self.kv_heads, 1) if self.kv_heads > 1 else x.expand(-1, self.heads, -1, -1) for x in (k, v))
        o = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, enable_gqa=not self.repeat_kv)
        return self.output(o.transpose(1, 2).reshape(batch, length, hidden))

    def forward(self, x, bias, cos, sin):
        x = x + self.attention(self.attention_norm(x), bias, cos, sin)
        h = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Encoder(nn.Module):
    """ids [B, S] and an additive attention bias [B, 1, 1, S] or None, to the last hidden state [B, S, hidden].
    repeat_kv: repeat keys and values for all heads, for exporters that don't know grouped queries."""

    def __init__(self, ckpt, dtype, repeat_kv=False):
        super().__init__()
        self.embeddings = nn.Embedding.from_pretrained(ckpt.tensor("embeddings.word_embeddings.weight").to(dtype))
        self.layers = nn.ModuleList(Layer(ckpt, i, dtype, repeat_kv) for i in range(ckpt.layers))
        self.norm = Norm(ckpt, "encoder.ln", dtype)
        cos, sin = ckpt.rope()
        self.register_buffer("cos", torch.cat([cos, cos], -1).to(dtype))
        self.register_buffer("sin", torch.cat([sin, sin], -1).to(dtype))

    def forward(self, ids, bias=None):
        x, cos, sin = self.embeddings(ids), self.cos[:ids.shape[1]], self.sin[:ids.shape[1]]
        for layer in self.layers:
            x = layer(x, bias, cos, sin)
        return self.norm(x)
