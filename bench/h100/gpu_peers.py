#!/usr/bin/env python3
"""Ours beside others on one H100: measures cuBLAS, FlashAttention 3 and PyTorch's compiler, and prints the table of targets.

    bertc-h100 ptx check --json ours.json
    python3 bench/h100/gpu_peers.py --ours ours.json --out h100.json

Run both in the same minutes on the same GPU: clocks and limits of power differ. The sizes, the shapes and our times come
from the file of bertc ptx check. It needs PyTorch 2.5 or later; torch.compile needs a C compiler too, and FlashAttention 3 is
measured where flash_attn_interface is installed. What fails is said, and the rest goes on; --out is written after each part.

A matmul of others has neither norm, bias, activation nor residual. It and attention are 50 calls in one CUDA graph, as ours
are, the second time. A call of the whole model is from ids in the host's memory to hidden states there, as ours is, in bf16,
half the bytes of ours.

--device cpu goes through all of it on a machine without a GPU, to test this script. Its times say nothing.
"""

import argparse
import datetime
import json
import os
import pathlib
import statistics
import sys
import time

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("gpu_peers.py: PyTorch is not installed")

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "peers"))
import model  # noqa: E402

# The targets: how many times as fast as the other ours is at least, and TFLOP/s of all matmuls of the largest batch.
MATMUL, MODEL, TFLOPS = 0.95, 1.3, 600
ROWS = 2048         # from which matmuls and attention are compared


class Bench:
    """Where others run, and the rows that were found."""

    def __init__(self, args, ours):
        self.args, self.ours, self.cuda = args, ours, args.device == "cuda"
        self.times, self.rows = ours["times"], []
        self.kernels = {k["name"]: k for k in self.times["kernels"]}
        self.largest = max(self.times["shapes"], key=tokens)
        self.smallest = min(self.times["shapes"], key=tokens)
        self.compared = [s for s in self.times["shapes"] if tokens(s) >= ROWS or not self.cuda]

    def tensor(self, *shape):
        return torch.randn(*shape, device=self.args.device, dtype=torch.bfloat16)

    def sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def repeated(self, call):
        """Seconds of one of many calls in a row, on a GPU in a graph: of the second time."""
        call()
        self.sync()
        if self.cuda:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(self.args.repeats):
                    call()
        for _ in range(2):
            start = time.perf_counter()
            if self.cuda:
                graph.replay()
            else:
                for _ in range(self.args.repeats):
                    call()
            self.sync()
            took = time.perf_counter() - start
        return took / self.args.repeats

    def attempt(self, what, measure):
        """What measure returns, None where it fails."""
        try:
            return measure()
        except Exception as e:      # of PyTorch, cuBLAS or the compiler: a row is missing, the rest goes on
            print(f"{what}: not measured: {type(e).__name__}: {str(e).strip().splitlines()[0] if str(e).strip() else ''}", flush=True)

    def add(self, what, ours, peer, theirs, flops=0, ratio=None, tflops=None):
        """A row: seconds of ours and of a peer, None where it was not measured, and a target: how many times as fast ours
        should be, or its rate."""
        row = dict(what=what, peer=peer, ours=ours, theirs=theirs, flops=flops, ratio=theirs and theirs / ours, want_ratio=ratio, want_tflops=tflops, met=None)
        if tflops:
            row["met"] = flops / ours / 1e12 >= tflops
        elif ratio and theirs:
            row["met"] = row["ratio"] >= ratio
        self.rows.append(row)
        print(line(row), flush=True)

    def save(self):
        if not self.args.out:
            return
        record = dict(date=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), device=device_name(self.args), torch=torch.__version__,
                      torch_cuda=torch.version.cuda, command=[os.path.basename(sys.argv[0]), *sys.argv[1:]], rows=self.rows, ours=self.ours)
        part = self.args.out.with_name(self.args.out.name + ".part")
        part.write_text(json.dumps(record, indent=1) + "\n")
        os.replace(part, self.args.out)

    def matmuls(self):
        for shape in self.compared:
            ours, theirs, flops = 0.0, [], 0.0
            for kernel, step in self.steps(shape, "gemm"):
                x, w = self.tensor(tokens(shape), kernel["k"]), self.tensor(kernel["n"], kernel["k"])
                what = f"{kernel['name']}, {name(shape)}"
                took = self.attempt(what + ", cuBLAS", lambda: self.repeated(lambda: F.linear(x, w)))
                self.add(what, step["seconds"], "cuBLAS", took, step["flops"], ratio=MATMUL)
                ours += kernel["steps"] * step["seconds"]
                flops += kernel["steps"] * step["flops"]
                theirs.append(took and kernel["steps"] * took)
            if shape is self.largest:
                self.add(f"all matmuls, {name(shape)}", ours, "cuBLAS", None if None in theirs else sum(theirs), flops, tflops=TFLOPS)

    def attention(self):
        config = self.times["config"]
        heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
        dim = config["hidden_size"] // heads
        try:
            from flash_attn_interface import flash_attn_func
        except ImportError:
            flash_attn_func = None
            print("FlashAttention 3 is not measured: flash_attn_interface is not installed", flush=True)
        for shape in self.compared:
            batch, length = shape["sequences"], shape["length"]
            q, k, v = self.tensor(batch, length, heads, dim), self.tensor(batch, length, kv, dim), self.tensor(batch, length, kv, dim)
            qt, kt, vt = (x.transpose(1, 2) for x in (q, k, v))
            peers = [("PyTorch", lambda: F.scaled_dot_product_attention(qt, kt, vt, enable_gqa=True))]
            if flash_attn_func:
                peers.insert(0, ("FlashAttention 3", lambda: flash_attn_func(q, k, v)))
            for kernel, step in self.steps(shape, "attention"):
                for peer, call in peers:
                    what = f"{kernel['name']}, {name(shape)}"
                    self.add(what, step["seconds"], peer, self.attempt(f"{what}, {peer}", lambda: self.repeated(call)), step["flops"])

    def memory(self):
        """The smallest batch beside the time that reading the weights of its matmuls takes, at the rate of a copy."""
        n = (1 << 30) if self.cuda else (1 << 20)
        x, y = (torch.empty(n, device=self.args.device, dtype=torch.uint8) for _ in range(2))
        took = self.attempt("copy", lambda: self.repeated(lambda: y.copy_(x)))
        if took:
            read = sum(2 * k["n"] * k["k"] * k["steps"] for k in self.kernels.values() if "n" in k)
            print(f"a copy moves {2 * n / took / 1e12:.2f} TB/s; the weights of the matmuls are {read / 1e9:.2f} GB")
            self.add(f"whole model, {name(self.smallest)}", self.smallest["seconds"], "reading the weights", read * took / (2 * n))

    def whole_model(self):
        shape = self.largest
        config = self.times["config"]
        encoder = model.Encoder(model.Random(config, self.args.device), torch.bfloat16).eval().to(self.args.device)
        ids = torch.randint(config["vocab_size"], (shape["sequences"], shape["length"]), pin_memory=self.cuda)
        out = torch.empty(*ids.shape, config["hidden_size"], dtype=torch.bfloat16, pin_memory=self.cuda)

        def call(run):
            out.copy_(run(ids.to(self.args.device, non_blocking=True)), non_blocking=True)
            self.sync()

        def median(peer, run):
            start = time.perf_counter()
            call(run)
            print(f"{peer}: the first call took {time.perf_counter() - start:.0f} s", flush=True)
            call(run)
            took = []
            for _ in range(self.args.calls):
                start = time.perf_counter()
                call(run)
                took.append(time.perf_counter() - start)
            return statistics.median(took)

        flops = sum(self.kernels[s["kernel"]]["steps"] * s["flops"] for s in shape["steps"])
        for peer, want, make in (("PyTorch", None, lambda: encoder), ("torch.compile", MODEL, lambda: model.compiled(encoder))):
            what = f"whole model, {name(shape)}"
            self.add(what, shape["seconds"], peer, self.attempt(f"{what}, {peer}", lambda: median(peer, make())), flops, ratio=want)
            self.save()

    def steps(self, shape, kind):
        for step in shape["steps"]:
            if self.kernels[step["kernel"]]["kind"] == kind:
                yield self.kernels[step["kernel"]], step


def tokens(shape):
    return shape["sequences"] * shape["length"]


def name(shape):
    return f"{shape['sequences']}×{shape['length']}"


def line(row):
    """A row of the table in Markdown."""
    def cell(seconds):
        if not seconds:
            return "–"
        text = f"{1e6 * seconds:.1f} µs" if seconds < 1e-3 else f"{1e3 * seconds:.3f} ms"
        return text + (f", {row['flops'] / seconds / 1e12:.0f} TFLOP/s" if row["flops"] else "")

    want = f"{row['want_tflops']} TFLOP/s" if row["want_tflops"] else f"{row['want_ratio']}×" if row["want_ratio"] else ""
    met = {None: "", True: "yes", False: "NO"}[row["met"]]
    ratio = f"{row['ratio']:.2f}×" if row["ratio"] else "–"
    return f"| {row['what']} | {cell(row['ours'])} | {row['peer']} | {cell(row['theirs'])} | {ratio} | {want} | {met} |"


def table(rows):
    head = ["| what | ours | other | takes | ours is so many times as fast | target | met |", "|---|---:|---|---:|---:|---:|---|"]
    return "\n".join(head + [line(r) for r in rows])


def device_name(args):
    return torch.cuda.get_device_name() if args.device == "cuda" else "a CPU"


def read(path):
    """The file of bertc ptx check, which must have times."""
    try:
        ours = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        sys.exit(f"gpu_peers.py: --ours {path}: {e}")
    if not (ours.get("times") or {}).get("shapes"):
        sys.exit(f"gpu_peers.py: --ours {path}: it has no times of the full size (bertc-h100 ptx check --json {path})")
    failed = [c for c in ours["checks"] if not c["ok"]]
    if failed:
        print(f"WARNING: {len(failed)} checks of ours failed, the times may be of wrong results: {failed[0]['model']}, {failed[0]['what']}")
    return ours


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ours", type=pathlib.Path, required=True, help="what bertc-h100 ptx check --json wrote")
    p.add_argument("--out", type=pathlib.Path, help="file for everything that was found, as JSON")
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    p.add_argument("--repeats", type=int, default=50, help="calls in a row of a matmul, attention or copy (default: 50)")
    p.add_argument("--calls", type=int, default=11, help="calls of the whole model, of which the median counts (default: 11)")
    args = p.parse_args()
    if min(args.repeats, args.calls) < 1:
        p.error("--repeats and --calls must be 1 or more")
    ours = read(args.ours)
    if args.device == "cuda":
        if not torch.cuda.is_available():
            sys.exit(f"gpu_peers.py: PyTorch {torch.__version__} finds no GPU")
        if device_name(args) != ours["device"]:
            print(f"WARNING: ours are times of {ours['device']}, this is {device_name(args)}")
    else:
        print("THESE ARE TIMES OF A CPU. They test this script and say nothing about a GPU.")
    print(f"{device_name(args)}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}; ours: bertc {ours['version']} on {ours['device']}, driver of CUDA {ours['cuda']}\n")
    bench = Bench(args, ours)
    with torch.inference_mode():
        for part in (bench.matmuls, bench.attention, bench.memory):
            part()
            bench.save()
    with torch.no_grad():       # what inductor wants to freeze weights
        bench.whole_model()
    print("\n" + table(bench.rows))
    judged = [r for r in bench.rows if r["want_ratio"] or r["want_tflops"]]
    print(f"\n{sum(r['met'] is True for r in judged)} of {len(judged)} targets are met, {sum(r['met'] is None for r in judged)} were not measured")


if __name__ == "__main__":
    main()
