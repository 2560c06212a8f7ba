"""Published figures, full ranking, printed beside ours. Often chosen on the test set; ours are chosen on validation.

Sources: BARS leaderboard (openbenchmark.github.io/BARS), UltraGCN (Mao et al., 2021; RecZoo), hyper.ai's listing for BSPM
(Choi et al., 2023), and for the last-item sets eSASRec's transformer_benchmark (2025) and the models' own papers.
"""

from __future__ import annotations

from dataclasses import dataclass

MARK = "*"  # after a name: published, not run here


@dataclass(frozen=True)
class Published:
    set_name: str
    model: str
    figures: dict[str, float]
    source: str


def _pair(
    names: tuple[str, str], set_name: str, rows: list[tuple[str, float, float, str]]
) -> list[Published]:
    return [
        Published(set_name, model, dict(zip(names, (a, b), strict=True)), source)
        for model, a, b, source in rows
    ]


_SPLIT = ("recall@20", "ndcg@20")
_LAST = ("recall@10", "ndcg@10")
_PAPERS = "transformer_benchmark and the papers"
FIGURES: list[Published] = [
    *_pair(
        _SPLIT,
        "gowalla",
        [
            ("ItemCF", 0.1570, 0.1214, "BARS"),
            ("MF-BPR", 0.1627, 0.1378, "BARS"),
            ("YoutubeDNN", 0.1754, 0.1473, "BARS"),
            ("EASE", 0.1765, 0.1467, "BARS"),
            ("LightGCN", 0.1830, 0.1554, "UltraGCN"),
            ("GF-CF", 0.1849, 0.1518, "BARS"),
            ("UltraGCN", 0.1862, 0.1580, "UltraGCN, RecZoo"),
            ("SimpleX", 0.1872, 0.1557, "BARS"),
            ("BSPM-EM", 0.1920, 0.1597, "hyper.ai listing"),
        ],
    ),
    *_pair(_SPLIT, "amazon_cds", [("UltraGCN", 0.1622, 0.1043, "UltraGCN, RecZoo")]),
    *_pair(
        _LAST,
        "beauty",
        [
            ("SASRec", 0.0605, 0.0318, _PAPERS),
            ("S3-Rec", 0.0647, 0.0327, _PAPERS),
            ("TIGER", 0.0648, 0.0384, _PAPERS),
            ("ActionPiece", 0.0775, 0.0424, _PAPERS),
            ("SASRec + sampled softmax", 0.0921, 0.0531, _PAPERS),
            ("eSASRec", 0.0928, 0.0523, _PAPERS),
        ],
    ),
    *_pair(
        _LAST,
        "sports",
        [
            ("SASRec", 0.0350, 0.0192, _PAPERS),
            ("S3-Rec", 0.0385, 0.0204, _PAPERS),
            ("TIGER", 0.0400, 0.0225, _PAPERS),
            ("ActionPiece", 0.0500, 0.0264, _PAPERS),
            ("SASRec + sampled softmax", 0.0569, 0.0314, _PAPERS),
            ("eSASRec", 0.0560, 0.0323, _PAPERS),
        ],
    ),
    *_pair(
        _LAST,
        "toys",
        [
            ("S3-Rec", 0.0700, 0.0376, _PAPERS),
            ("TIGER", 0.0712, 0.0432, _PAPERS),
            ("SASRec + sampled softmax", 0.0970, 0.0580, _PAPERS),
            ("eSASRec", 0.0939, 0.0538, _PAPERS),
        ],
    ),
]


def of_set(name: str) -> list[Published]:
    return [each for each in FIGURES if each.set_name == name]


def stands_in(set_name: str, model: str) -> Published | None:
    """The published figure of a peer that does not fit this machine."""
    return next((each for each in of_set(set_name) if each.model.lower() == model.lower()), None)
