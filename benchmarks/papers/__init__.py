"""Claims of papers, one file a paper, told in the order of their years; last one that has no paper."""

from papers import (
    dauphin_2014,
    dead_units,
    martens_2010,
    martens_grosse_2015,
    sutskever_2013,
    vinyals_povey_2012,
    vyas_2025,
    zhang_2019,
)
from papers.claim import Claim

CLAIMS: dict[str, Claim] = {
    "martens_2010": martens_2010.CLAIM,
    "vinyals_povey_2012": vinyals_povey_2012.CLAIM,
    "sutskever_2013": sutskever_2013.CLAIM,
    "dauphin_2014": dauphin_2014.CLAIM,
    "martens_grosse_2015": martens_grosse_2015.CLAIM,
    "zhang_2019": zhang_2019.CLAIM,
    "vyas_2025": vyas_2025.CLAIM,
    "dead_units": dead_units.CLAIM,
}
