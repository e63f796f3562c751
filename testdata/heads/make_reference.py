"""Makes the checkpoints of the heads, random and small, and what they should give.

    pip install -r requirements.txt && python make_reference.py

All heads share one encoder (encoder.safetensors). For each head there are NAME.safetensors,
NAME.config.json, and NAME.json with calls and their results, computed in float64.
"""
import json
import pathlib

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

import reference as ref

here = pathlib.Path(__file__).parent
tok = Tokenizer.from_file(str(here / "../../models/tiny/tokenizer.json"))
vocab = tok.get_vocab_size()

base = dict(vocab_size=vocab, hidden_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
            intermediate_size=88, max_position_embeddings=128, hidden_act="silu", norm_type="rmsnorm",
            layer_norm_eps=1e-5, position_embedding_type="rope", rope_theta=10000.0, attention_bias=True,
            mlp_bias=True, pad_token_id=4, mask_token_id=3, cls_token_id=5, sep_token_id=6, model_type="retrieva-bert")

sentiment = {"0": "negative", "1": "neutral", "2": "positive"}
tags = {"0": "O", "1": "B-人", "2": "I-人", "3": "B-LOC", "4": "I-LOC"}
heads = {
    "single": ("SequenceClassification", "classifier", 3, True, True, dict(id2label=sentiment)),
    "multi": ("SequenceClassification", "classifier", 3, False, True, dict(id2label=sentiment, problem_type="multi_label_classification")),
    "regression": ("SequenceClassification", "classifier", 1, True, True, dict(num_labels=1, problem_type="regression")),
    "tags": ("TokenClassification", "classifier", 5, False, False, dict(id2label=tags)),
    "qa": ("QuestionAnswering", "qa_outputs", 2, False, False, {}),
    "choice": ("MultipleChoice", "classifier", 1, True, True, {}),
}

texts = [
    "私は学校に行きます。",
    "東京🗼タワーの👨‍👩‍👧前で𠮷田さんに会った。",
    "ﾊﾝｶｸ ｶﾅと㈱と①。",
    "か\u3099き\u3099く\u3099 e\u0301te\u0301 は結合文字です。",
    " Hello, world 123! 英語と日本語 mixed text。 ",
    "改行\nも\tタブも　全角空白も。",
    "あ",
]
pairs = [("雨が降っている。", "天気が悪い。"), (texts[1], texts[4]), ("猫", "𠮷野家の牛丼は美味しい。" * 3)]
long_text = "昨日は雨が降りましたが、𠮷田さんは図書館で本を読んだ。🗼 The cat sat on the mat. " * 4


def fill(model, seed):
    g = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        with torch.no_grad():
            scale = 1.5 / p.shape[-1] ** 0.5 if p.dim() > 1 else 0.1
            p.copy_(torch.randn(p.shape, generator=g) * scale + (1 if name.endswith("ln.weight") else 0))
            if "word_embeddings" in name:
                p.copy_(torch.randn(p.shape, generator=g) * 0.7)


def logits(model, ids):
    """Float64 logits of one sequence of ids."""
    with torch.no_grad():
        return model(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.long))[0]


def encode(text, pair=None, limit=None, second=False):
    tok.no_truncation()
    if limit:
        tok.enable_truncation(limit, strategy="only_second" if second else "longest_first")
    e = tok.encode(text, pair) if pair else tok.encode(text)
    tok.no_truncation()
    return e


def label_scores(x, labels, problem):
    scores = {"single": x.softmax(0), "multi": x.sigmoid(), "regression": x}[problem].tolist()
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    return [dict(label=labels[i], score=scores[i]) for i in order]


def classify(name, model):
    labels = [heads[name][5].get("id2label", {"0": "LABEL_0"})[str(i)] for i in range(heads[name][2])]
    cases = []
    for text, pair in [(t, None) for t in texts] + pairs:
        e = encode(text, pair)
        given = dict(text=text, **({"pair": pair} if pair else {}))
        cases.append(dict(input=given, options={}, result=dict(labels=label_scores(logits(model, e.ids), labels, name))))
    cut = label_scores(logits(model, encode(*pairs[2], 20).ids), labels, name)
    second = label_scores(logits(model, encode(*pairs[2], 14, True).ids), labels, name)
    cases.append(dict(input=dict(text=pairs[2][0], pair=pairs[2][1]), options=dict(long="truncate", max_length=20), result=dict(labels=cut, truncated=True)))
    cases.append(dict(input=dict(text=pairs[2][0], pair=pairs[2][1]), options=dict(long="truncate_second", max_length=14), result=dict(labels=second, truncated=True)))
    return cases


def window_ids(e, which, limit, stride):
    """The text of a sequence id that is divided, its windows, and the token ids of each."""
    at = [i for i, s in enumerate(e.sequence_ids) if s == which]
    lo, hi = at[0], at[-1] + 1
    ws = ref.windows(hi - lo, limit - (len(e.ids) - (hi - lo)), stride)
    return lo, hi, ws, [e.ids[:lo] + e.ids[lo + a:lo + b] + e.ids[hi:] for a, b in ws]


def utf16(text, place):
    return len(text[:place].encode("utf-16-le")) // 2


def tag(model):
    labels, cases = [tags[str(i)] for i in range(5)], []
    jobs = [(t, {}, how) for t in texts for how in ("none", "simple", "first", "average", "max")]
    jobs += [(long_text, dict(long="window", max_length=40, stride=10), "average"), (long_text, dict(long="window", max_length=64), "simple"),
             (texts[1], dict(unit="utf16"), "simple")]
    for text, options, how in jobs:
        e = encode(text)
        lo, hi, ws, ids = window_ids(e, 0, options.get("max_length", 128), options.get("stride", 0))
        out = [logits(model, i).softmax(-1) for i in ids]
        home = ref.central(hi - lo, ws)
        tokens = [(*e.offsets[lo + t], e.tokens[lo + t].startswith("<0x"), out[home[t]][lo + t - ws[home[t]][0]]) for t in range(hi - lo)]
        found = ref.entities(text, tokens, labels, how)
        if options.get("unit") == "utf16":
            for f in found:
                f["start"], f["end"] = utf16(text, f["start"]), utf16(text, f["end"])
        cases.append(dict(input=text, options=dict(aggregation=how, **options), result=dict(entities=found, windows=len(ws))))
    return cases


def answer(model):
    cases = []
    jobs = [("誰が本を読んだ？", t, dict(top_k=3)) for t in texts]
    jobs += [("どこ？", texts[1], dict(top_k=4, null=True, max_answer=5)), ("どこ？", texts[1], dict(unit="utf16")),
             ("何が降った？", long_text, dict(top_k=3, long="window", max_length=48, stride=12, null=True)),
             ("何が降った？", long_text, dict(long="truncate_second", max_length=48))]
    for question, context, o in jobs:
        e, cut = encode(question, context), False
        if o.get("long") == "truncate_second":
            e, cut = encode(question, context, o["max_length"], True), True
        lo, hi, ws, ids = window_ids(e, 1, o.get("max_length", 128), o.get("stride", 0))
        k, found, null = o.get("top_k", 1), {}, 1.0
        for (a, b), i in zip(ws, ids):
            x = logits(model, i)
            best, none = ref.spans(x[:, 0], x[:, 1], lo, lo + b - a, o.get("max_answer", 30))
            null = min(null, none)
            for score, s, t in best[:k]:
                start, end = ref.trim(context, e.offsets[s + a][0], e.offsets[t + a][1]) if e.offsets[s + a][0] <= e.offsets[t + a][1] else (0, 0)
                if start < end:
                    found[start, end] = max(score, found.get((start, end), 0))
        unit = (lambda p: utf16(context, p)) if o.get("unit") else (lambda p: p)
        answers = [dict(text=context[s:t], score=x, start=s, end=t) for (s, t), x in found.items()]
        if o.get("null"):
            answers.append(dict(text="", score=null, start=0, end=0))
        answers = sorted(answers, key=lambda x: (-x["score"], x["start"], x["end"]))[:k]
        for x in answers:
            x["start"], x["end"] = unit(x["start"]), unit(x["end"])
        result = dict(answers=answers, no_answer=null, windows=len(ws), **({"truncated": True} if cut else {}))
        cases.append(dict(input=dict(question=question, context=context), options=o, result=result))
    return cases


def choose(model):
    cases = []
    for prompt, choices in [("電車に乗る場所は？", ["駅", "空港", "図書館", "𠮷野家", "海"]), ("夏", ["暑い", "寒い"]), (texts[1], texts[2:5])]:
        x = torch.stack([logits(model, encode(prompt, c).ids)[0] for c in choices]).softmax(0).tolist()
        order = sorted(range(len(x)), key=lambda i: -x[i])
        cases.append(dict(input=dict(prompt=prompt, choices=choices), options={}, result=dict(choices=[dict(index=i, text=choices[i], score=x[i]) for i in order])))
    return cases


def embed(model):
    cases = []
    pools = {"cls": lambda h: h[0], "mean": lambda h: h.mean(0), "max": lambda h: h.max(0).values, "lasttoken": lambda h: h[-1],
             "weightedmean": lambda h: (h * torch.arange(1, len(h) + 1)[:, None]).sum(0) / (len(h) * (len(h) + 1) / 2)}
    for n, text in enumerate(texts):
        h = logits(model, encode(text).ids)
        name = list(pools)[n % len(pools)]
        v = pools[name](h)
        cases.append(dict(input=text, options=dict(pooling=name), result=dict(vector=v.tolist())))
        v = v[:16]
        cases.append(dict(input=text, options=dict(pooling=name, dimensions=16, normalize=True), result=dict(vector=(v / v.norm()).tolist())))
    return cases


def padded_logits(model, sequence):
    """A right-padded batch: input_ids, attention_mask and logits."""
    ids = [encode(t).ids for t in texts]
    n = max(map(len, ids))
    x = torch.tensor([i + [4] * (n - len(i)) for i in ids])
    mask = torch.tensor([[1] * len(i) + [0] * (n - len(i)) for i in ids])
    with torch.no_grad():
        return dict(input_ids=x.int(), attention_mask=mask.int(), logits=model(x, mask).float())


def write(name, value):
    (here / name).write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def main():
    torch.set_default_dtype(torch.float64)
    c = ref.Config(**base)
    encoder = ref.Encoder(c)
    fill(encoder, 0)
    stored = {k: v.float() for k, v in encoder.state_dict().items()}
    save_file({"bert." + k: v for k, v in stored.items()}, here / "encoder.safetensors")
    encoder.load_state_dict({k: v.double() for k, v in stored.items()})
    write("encoder.config.json", dict(base, architectures=["RetrievaBertModel"]))
    write("encoder.json", dict(task="embed", cases=embed(encoder)))
    run = {"tags": tag, "qa": answer, "choice": choose}
    task = {"tags": "tag", "qa": "answer", "choice": "choose"}
    for seed, (name, (kind, linear, outputs, pooler, sequence, extra)) in enumerate(heads.items(), 1):
        model = ref.Head(c, linear, outputs, pooler, sequence)
        fill(model, seed)
        model.bert.load_state_dict(encoder.state_dict(), strict=False)
        own = {k: v.float() for k, v in model.state_dict().items() if k.removeprefix("bert.") not in stored}
        save_file(own, here / f"{name}.safetensors")
        model.load_state_dict({k: v.double() for k, v in own.items()}, strict=False)
        write(f"{name}.config.json", dict(base, architectures=["RetrievaBertFor" + kind], **extra))
        cases = run[name](model) if name in run else classify(name, model)
        write(f"{name}.json", dict(task=task.get(name, "classify"), cases=cases))
        save_file(padded_logits(model, sequence), here / f"{name}.golden.safetensors")


main()
