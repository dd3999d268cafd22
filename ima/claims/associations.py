"""Records of claims about families of models (I1, I2)."""

from __future__ import annotations

from ima.claims.readings import ReadingName
from ima.claims.records import ClaimRecord, make_claim_record, make_untestable_record
from ima.studies.model_families import Association


def make_association_record(
    claim: str, reading: ReadingName, association: Association, *, model: str
) -> ClaimRecord:
    """Make the record of an association, or say that the models cannot test it.

    Parameters
    ----------
    claim, reading : str
        The reading that the association belongs to.
    association : Association
        From :mod:`ima.studies.model_families`.
    model : str
        The family of models.

    Examples
    --------
    >>> from ima.stats.intervals import Interval
    >>> measured = Association(42, "mini-image-qa", Interval(-0.9, -0.95, -0.8, n=42))
    >>> make_association_record("I1", "as stated", measured, model="opt-mini (ST)").verdict
    'contradicted'
    >>> few = Association(2, "mini-image-qa")
    >>> make_association_record("I1", "as tested", few, model="llama-mini (ST)").verdict
    'not testable here'
    """
    if association.interval is None:
        return make_untestable_record(
            claim,
            reading,
            n=association.n,
            model=model,
            dataset=association.dataset,
            reason=association.reason,
        )
    return make_claim_record(
        claim,
        reading,
        interval=association.interval,
        model=model,
        dataset=association.dataset,
        finding=association.finding,
    )
