#!/usr/bin/env python3
"""Side by side: a package that bertc compiled, and other runtimes on the same checkpoint, call by call in turns.

Measured is one call from token ids to the last hidden state, in processes that stay loaded: bertc's (`bertc bench
model --shapes -`) and one peer at a time. A round is one turn of each; a turn is as many calls as fill 0.4 s, and
counts with their median. The first round is left out, and so are turns during which other processes took more than
5 % of the machine, while 3 are left. Before a peer is timed, its result is compared with ours.
"""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
from safetensors.numpy import load_file, save_file

import report
import shapes

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ["torch-bf16", "openvino-bf16", "onnxruntime-f32"]
SHAPES = "1x8,1x32,1x128,1x512,8x128,32x32,16+32+48+64+80+96+112+128"
TURN = 0.4                  # seconds
PAUSE = 0.1                 # seconds before a turn: the other side's threads stop spinning
FOREIGN = 0.05              # share of the machine
KEPT = 3                    # turns that are kept however disturbed
WRONG = 0.5                 # centred error that int8 stays under and another model does not


def cpu_seconds(root):
    """CPU time of a process and its descendants."""
    children, used = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = pathlib.Path(f"/proc/{entry}/stat").read_text().rsplit(")", 1)[1].split()
            except OSError:         # it ended meanwhile
                continue
            children.setdefault(int(fields[1]), []).append(int(entry))
            used[int(entry)] = int(fields[11]) + int(fields[12])
    total, todo = 0, [root]
    while todo:
        pid = todo.pop()
        total += used.get(pid, 0)
        todo += children.get(pid, [])
    return total / os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """CPU time of all processes, and what the hypervisor took."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


class Side:
    """A loaded process that answers lines."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with status {self.process.wait()}; its messages are above")
        return line.strip()

    def ask(self, line):
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass                    # read says why
        return self.read()

    def turn(self, line):
        """Median milliseconds of a call, and the share of the machine that other processes took meanwhile."""
        time.sleep(PAUSE)
        own, busy, start, calls = cpu_seconds(self.process.pid), busy_seconds(), time.perf_counter(), []
        while not calls or time.perf_counter() - start < TURN:
            calls.append(float(self.ask(line)))
        wall, busy = time.perf_counter() - start, busy_seconds() - busy
        own = cpu_seconds(self.process.pid) - own
        return statistics.median(calls), max(0.0, busy - own) / (wall * os.cpu_count())


def undisturbed(turns):
    """Without the most disturbed ones, while enough are left."""
    turns = sorted(turns, key=lambda t: t[1])
    while len(turns) > KEPT and turns[-1][1] > FOREIGN:
        turns.pop()
    return turns


def summary(turns):
    kept = undisturbed(turns)
    ms = [t for t, _ in kept]
    return dict(median_ms=round(statistics.median(ms), 3), min_ms=round(min(ms), 3), turns=len(turns), kept=len(kept),
                foreign=round(statistics.mean(f for _, f in kept), 3))


def measure(ours, peer, shape, rounds, budget):
    """Both in turns. A budget in seconds ends the rounds early, once enough turns of both are left."""
    turns = [], []
    for i in range(rounds):
        both = ours.turn(shape), peer.turn("time " + shape)
        if i == 0:                  # caches, packing, compiling
            start = time.perf_counter()
            continue
        for side, turn in zip(turns, both):
            side.append(turn)
        if time.perf_counter() - start > budget and len(turns[0]) >= KEPT:
            break
    mine, theirs = map(summary, turns)
    return dict(peer=peer.name, shape=shape, tokens=sum(shapes.lengths(shape)), ours=mine, theirs=theirs, ratio=round(theirs["median_ms"] / mine["median_ms"], 3))


class Check:
    """Our results for one uniform and one padded batch, which each peer must agree with."""

    def __init__(self, a, vocabulary, directory):
        self.a, self.dir, self.files, self.vocabulary = a, directory, {}, vocabulary

    def batch(self, shape):
        if shape not in self.files:
            source, target = (f"{self.dir}/{name}-{len(self.files)}.safetensors" for name in ("in", "ours"))
            ids, mask = shapes.batch(shape, self.vocabulary)
            save_file({"input_ids": ids} if mask is None else {"input_ids": ids, "attention_mask": mask}, source)
            call([self.a.bertc, "run", "--package", self.a.package, "--threads", str(self.a.threads), "--in", source, "--out", target])
            self.files[shape] = source, load_file(target)["last_hidden_state"], mask
        return self.files[shape]

    def compare(self, peer, shape):
        source, ours, mask = self.batch(shape)
        target = f"{self.dir}/theirs.safetensors"
        peer.ask(f"run {source} {target}")
        theirs = load_file(target)["last_hidden_state"]
        if theirs.shape != ours.shape:
            raise SystemExit(f"{peer.name}, {shape}: last_hidden_state is {list(theirs.shape)}, ours {list(ours.shape)}")
        real = slice(None) if mask is None else mask == 1
        x, y = (v[real].reshape(-1, v.shape[-1]).astype(np.float64) for v in (theirs, ours))
        error = np.linalg.norm(x - y)
        found = dict(peer=peer.name, shape=shape, error=float(error / np.linalg.norm(y)), centred=float(error / np.linalg.norm(y - y.mean(0))))
        if not found["centred"] < WRONG:
            raise SystemExit(f"{peer.name}, {shape}: error {found['error']:.3g}, centred {found['centred']:.3g}: it computes another model than {self.a.package}")
        return found


def call(command):
    status = subprocess.run(command).returncode
    if status:
        raise SystemExit(f"{shlex.join(map(str, command))}: status {status}; its messages are above")


def first_line(path, start):
    return next((line.split(":", 1)[1].strip() for line in open(path) if line.startswith(start)), "unknown")


def machine():
    flags = first_line("/proc/cpuinfo", "flags").split()
    return dict(cpu=first_line("/proc/cpuinfo", "model name"), cores=os.cpu_count(), memory_gb=round(int(first_line("/proc/meminfo", "MemTotal").split()[0]) / 2**20),
                kernel=platform.release(), features=[f for f in ("avx512f", "avx512_bf16", "amx_bf16") if f in flags])


def commit():
    """Of the repository around this file; what earlier runs wrote here does not make it dirty."""
    git = lambda *words: subprocess.run(["git", "-C", HERE, *words], capture_output=True, text=True)
    name = git("rev-parse", "--short", "HEAD").stdout.strip()
    if not name:
        return "unknown"
    return name + "-dirty" * git("diff", "--quiet", "HEAD", "--", ":/", ":!results.*").returncode


def command_line():
    """How to run it again; of paths only the last element."""
    words = ["peers.py", *sys.argv[1:]]
    return shlex.join(w if "/" not in w else os.path.basename(w.rstrip("/")) for w in words)


def earlier(path, fixed):
    """The results to add to: they must be of the same machine, model and threads."""
    old = json.loads(path.read_text())
    for key, value in fixed.items():
        if old[key] != value:
            raise SystemExit(f"--add: {path} has {key} {old[key]}, this run {value}")
    return old


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--model", required=True, help="checkpoint directory, such as bertc init writes")
    p.add_argument("--package", help="what bertc compile made of it")
    p.add_argument("--bertc", default="bertc", help="the program (default: from PATH)")
    p.add_argument("--peers", default=",".join(PEERS), help=f"README.md lists them (default: {','.join(PEERS)})")
    p.add_argument("--shapes", default=SHAPES, help=f"BATCHxLENGTH, or LENGTH+LENGTH+… for one batch of several lengths, which peers get padded (default: {SHAPES})")
    p.add_argument("--rounds", type=int, default=7, help="turns of each, the first left out (default: 7)")
    p.add_argument("--budget", type=float, default=60, help="seconds for a peer and shape, after which its rounds end early (default: 60)")
    p.add_argument("--threads", type=int, default=2, help="threads of both sides (default: 2)")
    p.add_argument("--work", type=pathlib.Path, default=HERE / "work", help="where converted models are kept (default: work, beside this file)")
    p.add_argument("--out", type=pathlib.Path, default=HERE, help="where results.json, results.md and results.svg go (default: beside this file)")
    p.add_argument("--add", action="store_true", help="add to the results that are there, replacing the same peers and shapes")
    p.add_argument("--prepare", action="store_true", help="convert the checkpoint for the peers, and stop")
    a = p.parse_args()
    if not a.package and not a.prepare:
        p.error("--package is needed")
    if a.rounds <= KEPT:
        p.error(f"--rounds {a.rounds}: must be more than {KEPT}")
    return a


def main():
    a = arguments()
    names, wanted = a.peers.split(","), a.shapes.split(",")
    for shape in wanted:
        shapes.lengths(shape)

    def runtime(command, name):
        return [sys.executable, HERE / "runtimes.py", command, name, a.model, a.work, str(a.threads)]

    for name in names:
        call(runtime("prepare", name))
    if a.prepare:
        return
    config = json.loads(pathlib.Path(a.model, "config.json").read_text())
    fixed = dict(machine=machine(), threads=a.threads, model={k: config[k] for k in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "vocab_size")})
    results = earlier(a.out / "results.json", fixed) if a.add else dict(fixed, runs=[], checks=[], cells=[])
    run = dict(date=datetime.date.today().isoformat(), command=command_line(), versions=dict(bertc=commit(), python=platform.python_version()))
    results["runs"].append(run)

    def keep(kind, row):
        same = lambda r: (r["peer"], r["shape"]) == (row["peer"], row["shape"])
        results[kind] = [r for r in results[kind] if not same(r)] + [dict(row, run=len(results["runs"]) - 1)]
        report.write(results, a.out)

    with tempfile.TemporaryDirectory() as scratch:
        check = Check(a, config["vocab_size"], scratch)
        for name in names:
            ours = Side("bertc", [a.bertc, "bench", "model", "--package", a.package, "--threads", str(a.threads), "--shapes", "-"])
            with ours, Side(name, runtime("serve", name)) as peer:
                run["versions"].update(v.split("=") for v in peer.read().split()[1:])
                checked = set()
                for shape in sorted(wanted, key=lambda s: "+" in s):        # so that a peer changes models once
                    example = "16+64+128" if "+" in shape else "1x128"
                    if example not in checked:
                        checked.add(example)
                        found = check.compare(peer, example)
                        print(f"{name:20} {example:32} error {found['error']:.4f}, centred {found['centred']:.4f}", flush=True)
                        keep("checks", found)
                    cell = measure(ours, peer, shape, a.rounds, a.budget)
                    mine, theirs = cell["ours"], cell["theirs"]
                    print(f"{name:20} {shape:32} {theirs['median_ms']:9.1f} ms, ours {mine['median_ms']:9.1f} ms: {cell['ratio']:.2f}×  "
                          f"kept {theirs['kept']}/{theirs['turns']} and {mine['kept']}/{mine['turns']}, foreign load {theirs['foreign']:.1%} and {mine['foreign']:.1%}", flush=True)
                    keep("cells", cell)


if __name__ == "__main__":
    main()
