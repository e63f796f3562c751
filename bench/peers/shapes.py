"""Batch shapes: BxS, or lengths joined by + for one batch of sequences of several lengths."""
import numpy as np


def lengths(shape):
    try:
        if "x" in shape:
            batch, length = map(int, shape.split("x"))
            found = [length] * batch
        else:
            found = [int(n) for n in shape.split("+")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise SystemExit(f"shape {shape!r}: want BATCHxLENGTH or LENGTH+LENGTH+…")
    return found


def batch(shape, vocabulary):
    """Random ids [B, S] as a peer gets them, and where rows are padded the mask [B, S], else None."""
    n = np.array(lengths(shape))
    mask = (np.arange(n.max()) < n[:, None]).astype(np.int64)
    ids = np.random.default_rng(n.sum()).integers(0, vocabulary, mask.shape) * mask
    return ids, None if mask.all() else mask


def padded(shape):
    """The shape that a runtime without ragged batches computes."""
    n = lengths(shape)
    return f"{len(n)}x{max(n)}"
