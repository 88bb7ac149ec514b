"""Claims of papers, one file a paper, told in the order of their years."""

from papers import martens_2010, martens_grosse_2015
from papers.claim import Claim

CLAIMS: dict[str, Claim] = {
    module.__name__.rpartition(".")[2]: module.CLAIM
    for module in (
        martens_2010,
        martens_grosse_2015,
    )
}
