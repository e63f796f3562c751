#!/usr/bin/env python3
"""Times what NVIDIA's and PyTorch's kernels take for the matmuls and the attention of the full size.

Run it on the machine with the GPU right before or after `bertc-h100 ptx check`, whose table has the
same rows. Matmuls are cuBLAS (torch.nn.functional.linear on bf16), without norm, bias or activation.
Attention is FlashAttention 3 where `flash_attn_interface` is installed, and PyTorch's
scaled_dot_product_attention (cuDNN or FlashAttention 2). Neither has run where this was written: the
script was made without a GPU.
"""

import argparse
import sys

SHAPES = [(1, 32), (1, 512), (8, 128), (8, 512), (16, 512), (4, 2048)]
# name, output columns, inner dimension
MATMULS = [("qkv", 1664, 1536), ("attention_output", 1536, 1536), ("gate_up", 8192, 1536), ("down", 1536, 4096)]
HEADS, HEAD_DIM = 24, 64


def measure(torch, call, repeats):
    """Returns seconds of one call: the mean of a full stream, of the second of two rounds."""
    for _ in range(2):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def attention_calls(torch, batch, length):
    """Yields a name and a call for every attention that is installed."""
    def tensor(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)

    q, k, v = tensor(batch, length, HEADS, HEAD_DIM), tensor(batch, length, 1, HEAD_DIM), tensor(batch, length, 1, HEAD_DIM)
    try:
        from flash_attn_interface import flash_attn_func
        yield "FlashAttention 3", lambda: flash_attn_func(q, k, v)
    except ImportError:
        pass
    qt, kt, vt = (x.transpose(1, 2) for x in (q, k, v))
    attend = torch.nn.functional.scaled_dot_product_attention
    yield "PyTorch", lambda: attend(qt, kt, vt, enable_gqa=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=50)
    args = parser.parse_args()
    try:
        import torch
    except ImportError:
        sys.exit("gpu_peers.py: PyTorch is not installed")
    if not torch.cuda.is_available():
        sys.exit("gpu_peers.py: PyTorch " + torch.__version__ + " finds no GPU")
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    for batch, length in SHAPES:
        rows = batch * length
        print(f"\n{batch}×{length}")
        for name, n, k in MATMULS:
            x = torch.randn(rows, k, device="cuda", dtype=torch.bfloat16)
            w = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
            took = measure(torch, lambda: torch.nn.functional.linear(x, w), args.repeats)
            print(f"  {name + ', cuBLAS':34}  {1e6 * took:9.1f} µs  {2e-12 * rows * n * k / took:6.0f} TFLOP/s")
        for name, call in attention_calls(torch, batch, length):
            took = measure(torch, call, args.repeats)
            flops = 4 * batch * length * length * HEADS * HEAD_DIM
            print(f"  {'attention, ' + name:34}  {1e6 * took:9.1f} µs  {1e-12 * flops / took:6.0f} TFLOP/s")


if __name__ == "__main__":
    main()
