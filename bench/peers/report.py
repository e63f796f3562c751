"""results.json as a table in Markdown and as a plot in SVG."""
import json
import math
import os

import shapes

DISTURBED = 0.05
COLOURS = ["#d1495b", "#3d7ea6", "#edae49", "#66a182", "#8d6a9f", "#c97b3a", "#5f6c7b"]


def write(results, directory):
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, text in (("json", json.dumps(results, indent=1)), ("md", markdown(results)), ("svg", svg(results))):
        part = directory / f"results.{suffix}.part"
        part.write_text(text + "\n")
        os.replace(part, directory / f"results.{suffix}")


def unique(values):
    return list(dict.fromkeys(values))


def label(shape):
    if "+" not in shape:
        return shape.replace("x", " × ")
    n = shapes.lengths(shape)
    return f"{len(n)} of {min(n)}–{max(n)}"


def markdown(results):
    cells = {(c["peer"], c["shape"]): c for c in results["cells"]}
    peers, wanted = unique(p for p, _ in cells), unique(s for _, s in cells)
    m, model = results["machine"], results["model"]
    lines = ["Milliseconds of one call, median, and how many times ours that is. Ours was measured in turns with each peer; its column is the range over the peers.",
             f"~: other processes took more than {DISTURBED:.0%} of the machine.", "",
             "| batch × length | ours | " + " | ".join(peers) + " |", "|---|---:|" + "---:|" * len(peers)]
    for shape in wanted:
        row = [cells.get((p, shape)) for p in peers]
        ours = [c["ours"]["median_ms"] for c in row if c]
        low, high = milliseconds(min(ours)), milliseconds(max(ours))
        lines.append(f"| {label(shape)} | {low if low == high else low + '–' + high} | " + " | ".join(cell_text(c) for c in row) + " |")
    ragged = [s for s in wanted if "+" in s]
    lines += [""] + [f"{label(s)}: {s} tokens; peers compute {shapes.padded(s).replace('x', ' × ')} with an attention mask." for s in ragged]
    lines += ["", "| last hidden state against ours | error | centred |", "|---|---:|---:|"]
    lines += [f"| {c['peer']}, {label(c['shape'])} | {c['error']:.4f} | {c['centred']:.4f} |" for c in results["checks"]]
    lines += ["", f"Machine: {m['cpu']} ({', '.join(m['features'])}), {m['cores']} cores, {m['memory_gb']} GB, Linux {m['kernel']}; {results['threads']} threads each. "
              f"Model: {model['num_hidden_layers']} layers, hidden {model['hidden_size']}, FFN {model['intermediate_size']}, "
              f"{model['num_attention_heads']}/{model['num_key_value_heads']} heads, vocabulary {model['vocab_size']}."]
    for run in (results["runs"][i] for i in sorted({c["run"] for c in results["cells"]})):
        versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items())
        lines += ["", f"{run['date']}, {versions}:", "", f"    {run['command']}"]
    return "\n".join(lines)


def milliseconds(x):
    return f"{x:.0f}" if x >= 10 else f"{x:.1f}"


def cell_text(c):
    if not c:
        return ""
    disturbed = max(c["ours"]["foreign"], c["theirs"]["foreign"]) > DISTURBED
    return f"{'~' if disturbed else ''}{milliseconds(c['theirs']['median_ms'])} ({c['ratio']:.1f}×)"


def svg(results):
    """Bars of the ratio from 1 on a logarithmic scale. The grey of the text can be read on white and on black."""
    cells = {(c["peer"], c["shape"]): c["ratio"] for c in results["cells"]}
    peers, wanted = unique(p for p, _ in cells), unique(s for _, s in cells)
    left, right, bar, gap, legend = 110, 60, 16, 14, 4
    top = 54 + 18 * math.ceil(len(peers) / legend)
    width, group = 760, bar * len(peers) + gap
    height = top + group * len(wanted) + 30
    low = min(0, math.floor(math.log2(min(cells.values(), default=1))))
    high = max(1, math.ceil(math.log2(max(cells.values(), default=2))))
    x = lambda ratio: left + (math.log2(ratio) - low) / (high - low) * (width - left - right)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="system-ui, sans-serif" font-size="13" fill="#7d848c">',
           f'<text x="{left}" y="20" font-size="15" font-weight="bold">Time of a call in multiples of bertc’s: right of 1×, bertc is faster</text>']
    for i, (peer, colour) in enumerate(zip(peers, COLOURS)):
        at, y = left + i % legend * 162, 33 + i // legend * 18
        out.append(f'<rect x="{at}" y="{y}" width="12" height="12" fill="{colour}"/><text x="{at + 17}" y="{y + 11}">{peer}</text>')
    for power in range(low, high + 1):
        ratio = 2.0 ** power
        line = f'<line x1="{x(ratio):.1f}" x2="{x(ratio):.1f}" y1="{top - 8}" y2="{height - 24}" stroke="#7d848c" stroke-opacity="{1 if power == 0 else 0.3}"/>'
        out.append(line + f'<text x="{x(ratio):.1f}" y="{height - 8}" text-anchor="middle">{ratio:g}×</text>')
    for i, shape in enumerate(wanted):
        y = top + i * group
        out.append(f'<text x="{left - 10}" y="{y + bar * len(peers) / 2 + 5:.1f}" text-anchor="end">{label(shape)}</text>')
        for j, (peer, colour) in enumerate(zip(peers, COLOURS)):
            ratio = cells.get((peer, shape))
            if ratio is None:
                continue
            a, b = sorted((x(1), x(ratio)))
            out.append(f'<rect x="{a:.1f}" y="{y + j * bar}" width="{b - a:.1f}" height="{bar - 2}" fill="{colour}"/>'
                       f'<text x="{b + 5:.1f}" y="{y + j * bar + 12}">{ratio:.1f}×</text>')
    return "\n".join(out + ["</svg>"])
