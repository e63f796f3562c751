"""Writes variants.json: what Hugging Face tokenizers does with small tokenizers
that use each supported form of each component.

usage: pip install tokenizers==0.23.3; python variants.py [texts per variant] > variants.json
"""
import json
import random
import sys

import tokenizers

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 24
R = random.Random(7)
ALPHABET = ["a", "b", "c", "ab", " ", "  ", "▁", "私", "学", "校", "学校", "😀", "é", "か\u3099", "\u3000", "\n",
            "<mask>", "<s>", "<unk>", "<mas", "<mask>>", "[X]", "[XY]", "[Z]", "<0x41>", "\u00a0"]
PIECES = ["<unk>", "<s>", "</s>", "<mask>", "▁", "▁▁", "▁▁▁", "a", "b", "c", "ab", "abc", "bc", "▁a", "▁ab", "b▁a",
          "私", "学", "校", "学校", "は学", "▁私", "か", "\u3099", "<", ">", "m", "s", "か\u3099", "\n\n", " ", " a"]
BYTES = ["<0x%02X>" % i for i in range(256)]


def vocab(bytes_, without=()):
    r = random.Random(11)
    pieces = [p for p in PIECES if p not in without]
    # Few different scores, so that sums tie.
    return [[p, -1.5 * r.randint(1, 4)] for p in pieces] + [[b, -7.5] for b in bytes_]


def added(content, id, special=True, **flags):
    return {"id": id, "content": content, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": special, **flags}


def replace(content, **pattern):
    return {"type": "Replace", "pattern": pattern, "content": content}


def sequence(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


START = replace("▁", Regex="(?<!\\n)^")
SPACE = replace("▁", Regex=" ")
NORMALIZER = sequence("normalizers", START, SPACE)
DECODER = sequence("decoders", {"type": "ByteFallback"}, replace(" ", Regex="▁"), {"type": "Fuse"},
                   replace("", Regex="(?<!\\n)^ "))
ADDED = [added("<unk>", 0), added("<s>", 1), added("</s>", 2), added("<mask>", 3)]


def template(single, pair, **ids):
    def items(text):
        out = []
        for item in text.split():
            name, type_id = item.rsplit(":", 1)
            kind = "Sequence" if name in "AB" else "SpecialToken"
            out.append({kind: {"id": name, "type_id": int(type_id)}})
        return out
    special = {n: {"id": n, "ids": i, "tokens": ["t"] * len(i)} for n, i in ids.items()}
    return {"type": "TemplateProcessing", "single": items(single), "pair": items(pair), "special_tokens": special}


CLS = template("cls:0 A:0 sep:0", "cls:0 A:0 sep:0 B:1 sep:1", cls=[1], sep=[2])


def metaspace(**more):
    return {"type": "Metaspace", "replacement": "▁", **more}


def make(normalizer=NORMALIZER, pre=None, post=CLS, decoder=DECODER, tokens=ADDED, bytes_=BYTES, fallback=True,
         without=()):
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": normalizer,
            "pre_tokenizer": pre, "post_processor": post, "decoder": decoder,
            "model": {"type": "Unigram", "unk_id": 0, "vocab": vocab(bytes_, without), "byte_fallback": fallback}}


V = len(PIECES) + 256
VARIANTS = {
    "LLM-jp": make(),
    "no normalizer": make(normalizer=None),
    "spaces only, as a String": make(normalizer=replace("▁", String=" ")),
    "start only": make(normalizer=START),
    "start or space": make(normalizer=sequence("normalizers", replace("▁", Regex="(?<!\\n)^| "), SPACE)),
    "Prepend": make(normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, SPACE)),
    "Prepend last, nested": make(normalizer=sequence("normalizers", SPACE, sequence(
        "normalizers", {"type": "Prepend", "prepend": "▁"}))),
    "Metaspace always": make(normalizer=None, pre=metaspace(prepend_scheme="always", split=False),
                             decoder=metaspace(prepend_scheme="always", split=False)),
    "Metaspace never": make(normalizer=None, pre=metaspace(prepend_scheme="never", split=False),
                            decoder=metaspace(prepend_scheme="never")),
    "no byte fallback": make(fallback=False),
    "some bytes": make(bytes_=BYTES[:0xa0]),
    "no space piece": make(without=("▁", "▁▁", "▁▁▁", "▁a", "▁ab", "b▁a", "▁私")),
    "no added tokens": make(tokens=[], post=None, decoder=None),
    "only one special token": make(tokens=[added("<mask>", 3)]),
    "stripping and more tokens": make(tokens=[
        added("<s>", 1, rstrip=True), added("<mask>", 3, lstrip=True), added("[X]", V, special=False),
        added("[XY]", V + 1, lstrip=True, rstrip=True), added("[X", V + 2, special=False), added("学", 17),
    ]),
    "LLM-jp's template": make(post=template("A:0 eod:0", "A:0 eod:0 B:1 eod:1", eod=[2])),
    "odd template": make(post=template("two:3 A:2", "B:5 two:4 A:0", two=[1, 2])),
    "Llama's decoder": make(decoder=sequence(
        "decoders", replace(" ", String="▁"), {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0})),
    "strips before fusing": make(decoder=sequence(
        "decoders", {"type": "Strip", "content": "▁", "start": 2, "stop": 0}, replace("b", String="aa"),
        replace("#", Regex="(?<!\\n)^ "))),
    "Fuse alone": make(decoder={"type": "Fuse"}),
    "empty decoder": make(decoder=sequence("decoders")),
}


def encoding(e):
    return {"ids": e.ids, "type_ids": e.type_ids, "offsets": e.offsets,
            "sequences": [-1 if s is None else s for s in e.sequence_ids]}


def main():
    out = []
    for name, config in VARIANTS.items():
        tok = tokenizers.Tokenizer.from_str(json.dumps(config))
        size = tok.get_vocab_size()
        cases, pairs, truncations, decodings = [], [], [], []
        text = lambda: "".join(R.choice(ALPHABET) for _ in range(R.randint(0, 9)))
        for _ in range(COUNT):
            t = text()
            cases.append({"text": t, **encoding(tok.encode(t)), "plain": tok.encode(t, add_special_tokens=False).ids})
        for _ in range(COUNT // 3):
            a, b = text(), text()
            pairs.append({"a": a, "b": b, "special": R.random() < 0.5})
            pairs[-1].update(encoding(tok.encode(a, b, add_special_tokens=pairs[-1]["special"])))
            ids = [R.randrange(-0, size + 3) for _ in range(R.randint(0, 9))]
            ids += [tok.token_to_id("<0x%02X>" % c) or 0 for c in R.choice(["あ", "é", "😀x"]).encode()]
            skip = R.random() < 0.5
            decodings.append({"ids": ids, "skip": skip, "text": tok.decode(ids, skip_special_tokens=skip)})
        for _ in range(COUNT // 2):
            a, b = text(), R.choice([None, text()])
            length = R.randint(1, 9)
            special = R.random() < 0.5
            # Below this Hugging Face computes a negative length.
            if special and length < tok.num_special_tokens_to_add(b is not None):
                continue
            case = {"a": a, "b": b, "special": special, "max_length": length,
                    "strategy": R.choice(["longest_first", "only_first", "only_second"]),
                    "direction": R.choice(["right", "left"])}
            try:
                tok.enable_truncation(length, strategy=case["strategy"], direction=case["direction"])
            except Exception:
                continue
            try:
                case.update(encoding(tok.encode(a, b, add_special_tokens=special)))
            except Exception as e:
                case["error"] = str(e)
            tok.no_truncation()
            truncations.append(case)
        out.append({"name": name, "tokenizer": config, "cases": cases, "pairs": pairs, "truncations": truncations,
                    "decodings": decodings})
    json.dump({"reference": "Hugging Face tokenizers " + tokenizers.__version__, "variants": out}, sys.stdout,
              ensure_ascii=False, separators=(",", ":"))
    print()


main()
