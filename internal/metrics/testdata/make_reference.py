"""Reference values of internal/metrics: scipy 1.17.1 and scikit-learn 1.9.1 (numpy 2.4.6).

    python make_reference.py > reference.json
"""
import collections
import json

import numpy as np
from scipy import stats
from sklearn.metrics import accuracy_score

rng = np.random.default_rng(0)
cases = []
for n in (2, 3, 10, 57, 300):
    x = rng.normal(size=n)
    y = x * rng.normal() + rng.normal(size=n)
    ties = (np.round(x * 2), np.round(y))
    for a, b in ((x, y), ties):
        if len(set(a)) > 1 and len(set(b)) > 1:
            cases.append(dict(x=a.tolist(), y=b.tolist(), pearson=stats.pearsonr(a, b)[0], spearman=stats.spearmanr(a, b)[0]))
labels = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
accuracy = dict(x=labels[0].tolist(), y=labels[1].tolist(), accuracy=accuracy_score(*labels))


def normalize(s):
    return " ".join(s.lower().rstrip("。").split())


def f1(a, b):
    a, b = list(normalize(a)), list(normalize(b))
    if not a or not b:
        return float(a == b)
    common = sum((collections.Counter(a) & collections.Counter(b)).values())
    return 2 * common / (len(a) + len(b)) if common else 0.0


answers = [("東京", ["東京"]), ("東京。", ["東京"]), ("東京都", ["東京", "京都"]), ("", [""]), ("", ["あ"]), ("あ", [""]), ("Tokyo  Tower", ["tokyo tower。。"]),
           ("1,000年", ["1000年"]), ("ああい", ["あいい", "う"]), ("「夢」", ["夢"]), ("か\u3099", ["が"]), ("𠮷野家", ["吉野家"]), ("　雨 ", ["雨"])]
spans = [dict(answer=a, right=r, exact=float(any(normalize(a) == normalize(x) for x in r)), f1=max(f1(a, x) for x in r)) for a, r in answers]
hits = (rng.random(200) < 0.8).astype(float)
boot = stats.bootstrap((hits,), np.mean, n_resamples=20000, method="percentile", rng=1)
interval = dict(x=hits.tolist(), lo=boot.confidence_interval.low, hi=boot.confidence_interval.high)
print(json.dumps(dict(correlations=cases, accuracy=accuracy, answers=spans, interval=interval), ensure_ascii=False))
