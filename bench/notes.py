"""What was tried for targets that are missed, by a figure's label; `bench.report` prints it and writes it beside the figures.

Figures without another word are of a validation window: nothing is chosen on the test. Two figures are all items / items new to the user.
"""

from __future__ import annotations

import re

NEW_USERS = (
    "recall@20 over popularity after 1 / 3 / 5 events, all items, 1,093 buyers who were left out; as it is: 1.43 / 1.83 / 2.07",
    "a linear source learnt on thinned histories (Steck's dropout, two sizes): 1.45 / 1.86 / 2.10 and 1.44 / 1.83 / 2.09",
    "the ranker's examples of short histories by sources that never saw their people: 1.44 / 1.84 / 2.12",
    "both kinds of examples, the short ones weighted 3: 1.43 / 1.89 / 2.12",
    "LambdaMART's truncation level at 60: 1.46 / 1.83 / 2.10",
    "no ranker: 1.15 / 1.59 / 1.94",
    "examples of 1 to 5 events for the ranker, kept: 1.25 / 1.65 / 1.89, from 1.11 / 1.55 / 1.81; items new to them "
    "1.10 / 1.25 / 1.36, from .93 / 1.14 / 1.24 (another sample of people)",
    "bounds: the window's own best fixed list 1.40, whole histories through the blend 3.24",
)

TRIED: dict[str, tuple[str, ...]] = {  # a pattern of labels
    r"online_retail, all ndcg@20": (
        "blend and ranker mixed, shares .1 to 1.5: .3324 / .1351 at best, the ranker alone .3323 / .1349",
        "the mean of three rankers' seeds: +.0006",
        "implicit factors among the sources: kept, +.5 % of the blend",
        "a ranker of its own for new items: +2 % of them in one run, -3 % with the final sources",
        "a purchase that was sent back is no day of buying again: kept, +.0015; on the test window -.0017",
        "averages of 3 and 4 rankers, xendcg and binary losses and their mixtures, nine more windows (weekly, older), EASE with "
        "three ridges, of baskets, of the last order, user neighbours over 30 and 90 days, content of the last order: within noise",
    ),
    r"online_retail, (all|new) coverage@20": (
        "diversity by MMR .1 / .2 / .3: coverage@10 .318 / .322 / .331 from .308, for -1.6 / -4.6 / -9 % of NDCG@10",
        "a smaller weight of popularity in the blend: nowhere near",
        "more candidates for the ranker: nowhere near",
        "the peers that cover more have half the quality",
        "1 / 2 / 3 / 4 discovery slots at places up to 20 (engine.discovery), off by default: coverage .60 / .71 / .78 / .82 and .43 / .55 / "
        ".62 / .66 where twice ALS's is .78 and .58, for -1.3 / -2.8 / -3.9 / -5.9 % and -1.1 / -2.4 / -4.6 / -5.9 % of NDCG@20, none of @10",
        "the same slots by standard score, quantile or margin to an item's 12th best user: coverage .79 / .81 / .80 and .55 / .58 / .60 with "
        "three, prices made for each column alone; by the score alone .59 and .34; at random .83 and .74 for -5.6 / -5.8 %",
        "slots only where the ranker expects little of a place: .76 for -2.4 %, all items; of new ones -9 %, where its scores do not tell",
        "every pair chosen at once for all users, greedily by calibrated chances, which no request can do: nearly twice ALS's coverage costs -.9 / -.4 to -1 %",
    ),
    r"online_retail, [135] events told, (all|new) recall@20 over popularity": NEW_USERS,
}


def of(label: str) -> list[str]:
    """Ways and their figures; empty where nothing is noted."""
    return [line for pattern, lines in TRIED.items() if re.fullmatch(pattern, label) for line in lines]
