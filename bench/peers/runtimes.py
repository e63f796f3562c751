"""The peers: other runtimes behind prepare, load, run and array; and the process that one of them lives in.

  runtimes.py prepare NAME MODEL WORK THREADS     convert the checkpoint into the runtime's own files, once
  runtimes.py serve NAME MODEL WORK THREADS       load it, say so with a line, then answer each line of standard input:
      time SHAPE       milliseconds of one call
      run IN OUT       the last hidden state of a safetensors file with input_ids and perhaps attention_mask
"""
import functools
import importlib.metadata
import os
import pathlib
import shutil
import sys
import time

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

import model
import shapes


class Peer:
    """load() once; run(ids, mask) is the call that is timed; array(its result) is float32 [B, S, hidden].
    mask is None where no token is padding."""
    packages = ("torch",)

    def __init__(self, ckpt, work, threads):
        self.ckpt, self.work, self.threads = ckpt, work, threads

    def prepare(self):
        pass

    def array(self, out):
        return out


class Torch(Peer):
    """Eager, or compiled."""

    def __init__(self, *args, dtype, compiled=False):
        super().__init__(*args)
        self.dtype, self.compiled = dtype, compiled

    def load(self):
        torch.set_num_threads(self.threads)
        self.encoder = model.Encoder(self.ckpt, self.dtype).eval()
        if self.compiled:
            self.encoder = model.compiled(self.encoder)

    def run(self, ids, mask):
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=self.dtype).masked_fill(torch.from_numpy(mask) == 0, torch.finfo(self.dtype).min)[:, None, None, :]
        return self.encoder(torch.from_numpy(ids), bias)

    def array(self, out):
        return out.float().numpy()


class Converted(Peer):
    """A peer with files of its own under work/, and one loaded model at a time: plain or masked."""

    def __init__(self, *args, kind):
        super().__init__(*args)
        self.dir = self.work / f"{kind}-{self.ckpt.fingerprint()}"
        self.loaded = None

    def prepare(self):
        if self.dir.exists():
            return
        part = self.dir.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        self.convert(part)
        part.rename(self.dir)

    def load(self):
        self.use("plain")

    def use(self, kind):
        if self.loaded != kind:
            self.close()
            self.open(kind)
            self.loaded = kind


class OpenVINO(Converted):
    """IR converted from the f32 PyTorch encoder; weights kept as f16, which holds bf16 weights of usual size exactly."""
    packages = ("openvino",)

    def __init__(self, *args, precision):
        super().__init__(*args, kind="openvino")
        self.precision = precision

    def convert(self, directory):
        import openvino

        class Masked(torch.nn.Module):
            def __init__(self, encoder):
                super().__init__()
                self.encoder = encoder

            def forward(self, ids, mask):
                return self.encoder(ids, ((1.0 - mask.to(torch.float32)) * -1e9)[:, None, None, :])

        encoder = model.Encoder(self.ckpt, torch.float32, repeat_kv=True).eval()
        ids = torch.zeros((2, 16), dtype=torch.int64)
        for kind, m, example in (("plain", encoder, (ids,)), ("masked", Masked(encoder).eval(), (ids, torch.ones_like(ids)))):
            ir = openvino.convert_model(m, example_input=example, input=[openvino.PartialShape([-1, -1])] * len(example))
            openvino.save_model(ir, directory / f"{kind}.xml", compress_to_fp16=True)

    def close(self):
        self.request = None

    def open(self, kind):
        import openvino
        options = {"INFERENCE_PRECISION_HINT": self.precision, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": self.threads}
        self.request = openvino.Core().compile_model(self.dir / f"{kind}.xml", "CPU", options).create_infer_request()

    def run(self, ids, mask):
        self.use("plain" if mask is None else "masked")
        self.request.infer([ids] if mask is None else [ids, mask], share_inputs=True)
        return self.request.get_output_tensor(0).data

    def array(self, out):
        return out.astype(np.float32)


class ONNXRuntime(Converted):
    """The graph of onnx_graph.py; int8: dynamic quantization, weights with a scale a channel."""
    packages = ("onnxruntime",)

    def __init__(self, *args, int8=False):
        super().__init__(*args, kind="onnx-int8" if int8 else "onnx-f32")
        self.int8 = int8

    def convert(self, directory):
        import onnx_graph
        onnx_graph.write(self.ckpt, directory, self.int8)

    def close(self):
        self.session = None

    def open(self, kind):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        self.session = onnxruntime.InferenceSession(self.dir / f"{kind}.onnx", options, providers=["CPUExecutionProvider"])

    def run(self, ids, mask):
        self.use("plain" if mask is None else "masked")
        feed = {"input_ids": ids}
        if mask is not None:
            feed["bias"] = np.where(mask == 1, 0, -1e9).astype(np.float32)[:, None, None, :]
        return self.session.run(None, feed)[0]


PEERS = {
    "torch-bf16": functools.partial(Torch, dtype=torch.bfloat16),
    "torch-compile-bf16": functools.partial(Torch, dtype=torch.bfloat16, compiled=True),
    "torch-f32": functools.partial(Torch, dtype=torch.float32),
    "openvino-bf16": functools.partial(OpenVINO, precision="bf16"),
    "openvino-f32": functools.partial(OpenVINO, precision="f32"),
    "onnxruntime-f32": ONNXRuntime,
    "onnxruntime-int8": functools.partial(ONNXRuntime, int8=True),
}


def serve(peer, answer):
    peer.load()
    answer("ready", *(f"{p}={importlib.metadata.version(p)}" for p in peer.packages))
    inputs = {}
    for line in sys.stdin:
        command, *args = line.split()
        if command == "time":
            shape, = args
            if shape not in inputs:
                inputs[shape] = shapes.batch(shape, peer.ckpt.config["vocab_size"])
            start = time.perf_counter()
            peer.run(*inputs[shape])
            answer(1e3 * (time.perf_counter() - start))
        elif command == "run":
            source, target = args
            batch = load_file(source)
            out = peer.array(peer.run(batch["input_ids"], batch.get("attention_mask")))
            save_file({"last_hidden_state": np.ascontiguousarray(out)}, target)
            answer("done")
        else:
            raise SystemExit(f"{command!r}: no such command")


def main():
    command, name, directory, work, threads = sys.argv[1:]
    if name not in PEERS:
        raise SystemExit(f"no peer {name!r}; there are: {', '.join(PEERS)}")
    lines = os.fdopen(os.dup(1), "w")       # what the runtimes print goes to standard error
    os.dup2(2, 1)
    torch.set_grad_enabled(False)
    peer = PEERS[name](model.Checkpoint(directory), pathlib.Path(work), int(threads))
    if command == "prepare":
        peer.prepare()
    else:
        serve(peer, lambda *words: print(*words, file=lines, flush=True))


if __name__ == "__main__":
    main()
