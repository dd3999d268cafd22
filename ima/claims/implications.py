"""The implications of the paper, each with its two readings."""

from __future__ import annotations

from ima.claims.readings import RHO_MARGIN, SCORE_MARGIN, Claim, Margin, Reading

IMPLICATIONS: tuple[Claim, ...] = (
    Claim(
        "I1",
        "proxy for the task score",
        ("The IMA score correlates with the task score."),
        page="implication1",
        as_stated=Reading(
            sentence=(
                "Over all models of one language model, finished or not, a higher IMA score goes "
                "with a higher task score."
            ),
            statistic=(
                "Spearman correlation of the IMA score with the task score over all models shown, "
                "each counted once for every task"
            ),
            margin=RHO_MARGIN,
            unit="models",
            figure="figure 9",
            fewest=5,
        ),
        as_tested=Reading(
            sentence=(
                "Among independent models of one modality and task, a higher IMA score goes "
                "with a higher task score."
            ),
            statistic=(
                "mean over modalities and tasks of Spearman's correlation of the IMA score "
                "with the task score, over independent models: all connectors on one frozen "
                "encoder are one"
            ),
            margin=RHO_MARGIN,
            unit="independent models",
            figure="figure 9",
            fewest=5,
        ),
        other_work=(
            "{cite:t}`huang2025` agree: a distance between the distributions of visual and "
            "textual tokens, taken at each layer before fine-tuning, tracks the benchmark scores "
            "after it. Our reading as tested asks for more: the encoders must be independent."
        ),
    ),
    Claim(
        "I2",
        "hallucination",
        ("The more aligned the model, the less it hallucinates."),
        page="implication2",
        as_stated=Reading(
            sentence=(
                "Over all models of one language model, finished or not, a higher IMA score goes "
                "with fewer captions that name an absent object."
            ),
            statistic=(
                "Spearman correlation of the IMA score with the fraction of hallucinating "
                "captions (CHAIR_s) over all models shown"
            ),
            margin=RHO_MARGIN,
            unit="models",
            figure="the hallucination rates of implication 2",
            direction="less",
            fewest=5,
        ),
        as_tested=Reading(
            sentence=(
                "Among independent models of one modality and task, a higher IMA score goes "
                "with fewer captions that name an absent object."
            ),
            statistic=(
                "mean over modalities of Spearman's correlation of the IMA score with the "
                "fraction of hallucinating captions (CHAIR_s), over independent models: all "
                "connectors on one frozen encoder are one"
            ),
            margin=RHO_MARGIN,
            unit="independent models",
            figure="the hallucination rates of implication 2",
            direction="less",
            fewest=5,
        ),
        other_work=(
            "{cite:t}`jiang2025` agree in part: real objects get more confident logit-lens words "
            "at image tokens than hallucinated ones, and removing the latter's direction reduces "
            "hallucination. Our causal arm, in {ref}`implication2`, moves states along the "
            "direction of text instead."
        ),
    ),
    Claim(
        "I3",
        "skipping",
        ("Computation for perceptual tokens can be skipped at little loss."),
        page="implication3",
        as_stated=Reading(
            sentence=(
                "With half of the perceptual tokens bypassing the FFN, a model keeps nine "
                "tenths of its score."
            ),
            statistic=(
                "task score with half of the perceptual tokens bypassing the FFN, divided by the "
                "unchanged model's, mean over data sets"
            ),
            margin=Margin(0, "The null of 0.9 is the margin: a tenth of the score may be lost."),
            unit="contents",
            figure="figure 11",
            null=0.9,
        ),
        as_tested=Reading(
            sentence=(
                "With half of the perceptual tokens bypassing the FFN, a model keeps nine tenths "
                "of its caption score. Captions count only if the model loses more than a tenth "
                "when as many textual tokens bypass the FFN."
            ),
            statistic=(
                "caption score with half of the perceptual tokens bypassing the FFN, divided by "
                "the unchanged model's, mean over data sets; tested where as many textual tokens "
                "cost more than a tenth"
            ),
            margin=Margin(0, "The null of 0.9 is the margin: a tenth of the score may be lost."),
            unit="contents",
            figure="figure 11",
            null=0.9,
        ),
        other_work=(
            "{cite:t}`chen2024` drop half of the visual tokens after layer 2, and "
            "{cite:t}`lin2024` all of them after a searched layer. {ref}`token-reduction` runs "
            "both on the same model and samples."
        ),
    ),
    Claim(
        "I4",
        "α-SubNet",
        ("One subnetwork serves all tasks and modalities."),
        page="implication4",
        as_stated=Reading(
            sentence=(
                "The α-SubNets of masks that remove 30 % and 50 % keep nine tenths of the "
                "whole model's score."
            ),
            statistic=(
                "task score of the α-SubNet minus 0.9 of the whole model's, mean over tasks, "
                "the lower of 30 % and 50 % masks"
            ),
            margin=Margin(0, "The margin is in the statistic: a tenth of the score may be lost."),
            unit="contents",
            figure="figure 12",
        ),
        as_tested=Reading(
            sentence=(
                "The α-SubNet of 50 % masks keeps more of the score than the best equally sparse "
                "mask, which is chosen on other samples."
            ),
            statistic=(
                "task score of the α-SubNet of 50 % masks minus that of the other mask at equal "
                "sparsity that scores best on calibration samples, mean over tasks"
            ),
            margin=SCORE_MARGIN,
            unit="contents",
            figure="figure 12",
        ),
    ),
)
