"""The encoder and the heads in PyTorch, and what their logits mean: the reference of the tests.

The encoder is RetrievaBERT's (PreNorm, SwiGLU, grouped-query attention) with RMSNorm and rotary
positions. The heads are those of Hugging Face's BERT-like models. Decoding follows Hugging Face's
pipelines, with the differences that docs/tasks.md lists.
"""
import math
import unicodedata

import torch
import torch.nn as nn
import torch.nn.functional as F


class Config:
    def __init__(self, **fields):
        self.__dict__.update(fields)


class RMSNorm(nn.Module):
    def __init__(self, n, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))
        self.eps = eps

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class Layer(nn.Module):
    def __init__(self, c):
        super().__init__()
        h, d = c.hidden_size, c.hidden_size // c.num_attention_heads
        self.c, self.d = c, d
        att = nn.Module()
        att.ln = RMSNorm(h, c.layer_norm_eps)
        att.self = nn.Module()
        att.self.query = nn.Linear(h, h)
        att.self.key = nn.Linear(h, c.num_key_value_heads * d)
        att.self.value = nn.Linear(h, c.num_key_value_heads * d)
        att.output = nn.Module()
        att.output.dense = nn.Linear(h, h)
        self.attention = att
        self.ln = RMSNorm(h, c.layer_norm_eps)
        self.mlp = nn.Module()
        self.mlp.gate_proj = nn.Linear(h, c.intermediate_size)
        self.mlp.up_proj = nn.Linear(h, c.intermediate_size)
        self.mlp.down_proj = nn.Linear(c.intermediate_size, h)

    def forward(self, x, mask, cos, sin):
        c, a = self.c, self.attention
        b, s, _ = x.shape
        n = a.ln(x)
        split = lambda t, heads: t.view(b, s, heads, self.d).transpose(1, 2)
        q = rotate(split(a.self.query(n), c.num_attention_heads), cos, sin)
        k = rotate(split(a.self.key(n), c.num_key_value_heads), cos, sin)
        v = split(a.self.value(n), c.num_key_value_heads)
        group = c.num_attention_heads // c.num_key_value_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(self.d)
        scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
        o = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, s, -1)
        x = x + a.output.dense(o)
        n = self.ln(x)
        return x + self.mlp.down_proj(F.silu(self.mlp.gate_proj(n)) * self.mlp.up_proj(n))


class Encoder(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c = c
        self.embeddings = nn.Module()
        self.embeddings.word_embeddings = nn.Embedding(c.vocab_size, c.hidden_size)
        self.encoder = nn.Module()
        self.encoder.layer = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.encoder.ln = RMSNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, ids, mask):
        x = self.embeddings.word_embeddings(ids)
        d = self.c.hidden_size // self.c.num_attention_heads
        inv = self.c.rope_theta ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
        angle = torch.outer(torch.arange(ids.shape[1], dtype=torch.float64), inv)
        cos, sin = (f(torch.cat([angle, angle], -1)).to(x.dtype) for f in (torch.cos, torch.sin))
        for layer in self.encoder.layer:
            x = layer(x, mask, cos, sin)
        return self.encoder.ln(x)


class Head(nn.Module):
    """bert, perhaps a pooler, and one linear map called name."""

    def __init__(self, c, name, outputs, pooler, sequence):
        super().__init__()
        self.name, self.sequence = name, sequence
        self.bert = Encoder(c)
        if pooler:
            self.bert.pooler = nn.Module()
            self.bert.pooler.dense = nn.Linear(c.hidden_size, c.hidden_size)
        self.add_module(name, nn.Linear(c.hidden_size, outputs))

    def forward(self, ids, mask):
        x = self.bert(ids, mask)
        if self.sequence:
            x = x[:, 0]
            if hasattr(self.bert, "pooler"):
                x = torch.tanh(self.bert.pooler.dense(x))
        return getattr(self, self.name)(x)


# Decoding. Offsets are in code points.

SPACELESS = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN")


def spaceless(ch):
    code = ord(ch)
    if 0x3000 <= code <= 0x303F or 0xFF00 <= code <= 0xFFEF or code in (0x30FB, 0x30FC):
        return True
    return unicodedata.name(ch, "").startswith(SPACELESS)


def inside_word(text, start):
    """Hugging Face's rule for vocabularies that do not mark words, for scripts with spaces."""
    if start == 0 or start >= len(text) or " " in text[start - 1:start + 1]:
        return False
    return not spaceless(text[start - 1]) and not spaceless(text[start])


def characters(text, tokens):
    """Folds byte tokens into characters. tokens: (start, end, is byte, scores)."""
    out, i = [], 0
    while i < len(tokens):
        start, end, byte, scores = tokens[i]
        n = 1
        while byte and i + n < len(tokens) and tokens[i + n][2] and tokens[i + n][:2] == (start, end):
            n += 1
        run = [t[3] for t in tokens[i:i + n]]
        i += n
        if start == end:
            continue
        if not byte or n != len(text[start:end].encode()):
            out.append((start, end, torch.stack(run).mean(0)))
            continue
        at = 0
        for k, ch in enumerate(text[start:end]):
            size = len(ch.encode())
            out.append((start + k, start + k + 1, torch.stack(run[at:at + size]).mean(0)))
            at += size
    return out


def trim(text, start, end):
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), end - (len(part) - len(part.rstrip()))


def entities(text, tokens, labels, how):
    words = []
    for start, end, scores in characters(text, tokens):
        if how in ("first", "average", "max") and words and inside_word(text, start):
            words[-1].append((start, end, scores))
        else:
            words.append([(start, end, scores)])
    parts = []
    for word in words:
        scores = word[0][2]
        if how == "average":
            scores = torch.stack([w[2] for w in word]).mean(0)
        if how == "max":
            scores = max((w[2] for w in word), key=lambda s: s.max().item())
        best = int(scores.argmax())
        parts.append((labels[best], scores[best].item(), word[0][0], word[-1][1]))
    groups = []
    for label, score, start, end in parts:
        if how == "none":
            groups.append((label, [(score, start, end)]))
            continue
        begins, tag = label.startswith("B-"), label[2:] if label[:2] in ("B-", "I-") else label
        if groups and groups[-1][0] == tag and not begins:
            groups[-1][1].append((score, start, end))
        else:
            groups.append((tag, [(score, start, end)]))
    out = []
    for label, members in groups:
        start, end = trim(text, members[0][1], members[-1][2])
        if label != "O" and start < end:
            score = sum(m[0] for m in members) / len(members)
            out.append(dict(label=label, score=score, word=text[start:end], start=start, end=end))
    return out


def windows(n, room, stride):
    if n <= room:
        return [(0, n)]
    step = room - (stride or room // 4)
    starts = list(range(0, n - room, step)) + [n - room]
    return [(s, s + room) for s in starts]


def central(n, ws):
    """The window of each token in which it is farthest from the ends inside the text."""
    best = []
    for t in range(n):
        def far(w):
            return min([t - w[0]] * (w[0] > 0) + [w[1] - 1 - t] * (w[1] < n) + [n])
        inside = [(i, far(w)) for i, w in enumerate(ws) if w[0] <= t < w[1]]
        best.append(max(inside, key=lambda x: (x[1], -x[0]))[0])
    return best


def spans(start, end, lo, hi, longest):
    """Product of softmax values over the context and the first token; all spans, and no answer."""
    keep = torch.zeros(len(start), dtype=torch.bool)
    keep[lo:hi] = True
    keep[0] = True
    p, q = (x.masked_fill(~keep, float("-inf")).softmax(0) for x in (start, end))
    found = [((p[i] * q[j]).item(), i, j) for i in range(lo, hi) for j in range(i, min(hi, i + longest))]
    return sorted(found, key=lambda f: (-f[0], f[1], f[2])), (p[0] * q[0]).item()
