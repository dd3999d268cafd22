"""The claims of the paper, in its order, and the pages that measure them."""

from __future__ import annotations

from collections.abc import Mapping

from ima.claims.findings import FINDINGS
from ima.claims.implications import IMPLICATIONS
from ima.claims.readings import Claim

CLAIMS: Mapping[str, Claim] = {claim.id: claim for claim in (*FINDINGS, *IMPLICATIONS)}


def list_claim_pages(part: str | None = None) -> list[str]:
    """List the pages that measure claims, in the order of the claims.

    Parameters
    ----------
    part : str or None
        Title of a part of the book; None lists the pages of all parts.

    Examples
    --------
    >>> list_claim_pages("Implications")
    ['implication1', 'implication2', 'implication3', 'implication4']
    """
    claims = [claim for claim in CLAIMS.values() if part in (None, claim.part)]
    return list(dict.fromkeys(claim.page for claim in claims))
