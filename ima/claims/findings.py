"""The findings of the paper, each with its two readings."""

from __future__ import annotations

from ima.claims.readings import COSINE_MARGIN, SCORE_MARGIN, Claim, Margin, Reading

FINDINGS: tuple[Claim, ...] = (
    Claim(
        "F1.1",
        "narrow cones",
        (
            "Perceptual and textual tokens lie in different narrow cones: at every layer, each "
            "kind is more similar to itself than to the other."
        ),
        page="finding1",
        as_stated=Reading(
            sentence=(
                "Within a data set, perceptual tokens are more similar to each other than to "
                "text, and so are textual tokens, at every layer."
            ),
            statistic=(
                "minimum over layers of min(P intra − PvsT, T intra − PvsT), within data sets, in "
                "cosine"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 2",
        ),
        as_tested=Reading(
            sentence=(
                "Each kind is also more similar to itself among texts with the same wording, among "
                "texts with different wording, and without attention sinks and rogue dimensions."
            ),
            statistic=(
                "minimum over layers of min(P intra − PvsT, T intra − PvsT), within data sets, "
                "over pairs whose texts have the same wording and over pairs whose texts do not, "
                "in cosine, the least of three treatments of the means: without sinks, without "
                "rogue dimensions, standardised"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 2",
        ),
        other_work=(
            "{cite:t}`timkey2021` find that a few rogue dimensions dominate the cosines of "
            "language models; {ref}`cosine` measures what they and attention sinks contribute "
            "here. {cite:t}`serra2024` agree that image and text stay apart in the residual "
            "stream, most of all in models that were trained on both from the start. Our models "
            "all start from a language model."
        ),
    ),
    Claim(
        "F1.2",
        "separability",
        ("Text, image, video and audio tokens stay separate clusters at every layer."),
        page="finding1",
        as_stated=Reading(
            sentence=(
                "At every layer, the tokens of each class are closer to their own class than "
                "to the nearest other class."
            ),
            statistic=(
                "minimum over layers and classes of the silhouette of modality, cosine distance"
            ),
            margin=Margin(
                0.05,
                (
                    "A silhouette below 0.05 is no cluster: Kaufman and Rousseeuw see no structure "
                    "below 0.25."
                ),
            ),
            unit="contents",
            figure="the t-SNE maps of finding 1",
        ),
        as_tested=Reading(
            sentence=(
                "At every layer, the nearest state with other content is of the same class, "
                "whether or not rogue dimensions are removed."
            ),
            statistic=(
                "minimum over layers of the fraction of states whose nearest neighbour of "
                "another content has their class, minus the same fraction with permuted "
                "classes, the least of three treatments of the means: without sinks, without "
                "rogue dimensions, standardised"
            ),
            margin=Margin(
                0.05, ("One neighbour in twenty is the least that a map of the states would show.")
            ),
            unit="contents",
            figure="the t-SNE maps of finding 1",
        ),
    ),
    Claim(
        "F1.3",
        "norms",
        (
            "Perceptual tokens have larger norms than textual tokens: at all layers of "
            "single-task models, at the early layers of multitask models."
        ),
        page="finding1-norms",
        as_stated=Reading(
            sentence=(
                "Perceptual tokens have the larger norm, at all layers of single-task models "
                "and in the first quarter of multitask models."
            ),
            statistic=(
                "minimum over layers (of multitask models, over their first quarter) of "
                "log₂(median norm of P / median norm of T)"
            ),
            margin=Margin(
                0.14,
                (
                    "A ratio of 1.1 is 0.14 in log₂; a norm that is less than a tenth larger does "
                    "not count as larger."
                ),
            ),
            unit="contents",
            figure="figure 3",
        ),
        as_tested=Reading(
            sentence=(
                "Perceptual tokens also have the larger norm if the connector's output is scaled "
                "to the median norm of text: the blocks themselves make it larger."
            ),
            statistic=(
                "the same minimum, from layer 1 on, with the connector's output scaled to the "
                "median norm of the text's input vectors"
            ),
            margin=Margin(
                0.14,
                (
                    "A ratio of 1.1 is 0.14 in log₂; a norm that is less than a tenth larger does "
                    "not count as larger."
                ),
            ),
            unit="contents",
            figure="figure 3",
        ),
    ),
    Claim(
        "F1.4",
        "slow change",
        (
            "Perceptual tokens change slowly from layer to layer; textual tokens change a lot "
            "in the first layers."
        ),
        page="finding1-norms",
        as_stated=Reading(
            sentence=(
                "In the first quarter of the layers, a perceptual token turns less than a textual "
                "token from one layer to the next."
            ),
            statistic=(
                "cosine of the same token one layer on, perceptual minus textual, mean over "
                "the first quarter of the layers"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="the similarity of consecutive layers in finding 1",
        ),
        as_tested=Reading(
            sentence=(
                "On average over all layers, perceptual tokens turn less than textual ones, even "
                "if both kinds have the same norm."
            ),
            statistic=(
                "cosine of the same token one layer on with norms matched, perceptual minus "
                "textual, mean over all layers"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="the similarity of consecutive layers in finding 1",
        ),
        other_work=(
            "{cite:t}`yuan2025` freeze visual tokens in the layers that change the output least, "
            "and {cite:t}`chen2025` drop the tokens that a block changes least; "
            "{ref}`token-reduction` runs both. {cite:t}`luo2026` disagree that a small change is "
            "what matters: late updates of visual tokens can be large and still leave the answer "
            "as it is. Our readings measure the size of the update only."
        ),
    ),
    Claim(
        "F1.5",
        "no words",
        (
            "Perceptual tokens are not translated to words: through the logit lens, their "
            "distributions over the vocabulary differ from those of text."
        ),
        page="finding1-words",
        as_stated=Reading(
            sentence=(
                "The words that the logit lens reads from percepts differ from those of text more "
                "than the texts of two data sets differ from each other."
            ),
            statistic=(
                "minimum over layers of the Jensen–Shannon divergence of P and T minus that of "
                "the texts of two data sets, in bits"
            ),
            margin=Margin(
                0.02,
                (
                    "The divergence is at most 1 bit; another choice of data sets changes it by "
                    "more than a fiftieth of that."
                ),
            ),
            unit="contents",
            figure="the logit lens of finding 1",
        ),
        as_tested=Reading(
            sentence=(
                "In every data set and at every layer, percepts show a word that only their own "
                "text has in fewer than half of the pairs of samples, after chance is subtracted."
            ),
            # Of pairs, because texts of a narrow world share most words: a translated percept
            # would show words of every text. Of a sample's percept as a whole, because most tokens
            # of a picture show nothing that its caption names, even if all are translated.
            statistic=(
                "fraction of pairs of samples in which the ten likeliest words of a percept hold a "
                "content word that only its own text has, minus one that only the other text "
                "has, at the data set and layer where the difference is largest"
            ),
            margin=Margin(
                0.05, "One pair in twenty is the least that a table of words would show."
            ),
            unit="contents",
            figure="the logit lens of finding 1",
            direction="less",
            null=0.5,
        ),
        other_work=(
            "{cite:t}`neo2024` agree in part: visual tokens of LLaVA become readable in the "
            "vocabulary from layer to layer. {cite:t}`krojer2026` hold that the logit lens "
            "underestimates this: compared with states of words in context, most visual tokens of "
            "15 models are interpretable at every layer. Both our readings use the logit lens, so "
            "they may underestimate it too."
        ),
    ),
    Claim(
        "F2.1",
        "same weights",
        ("Different modalities activate the same weights."),
        page="finding2",
        as_stated=Reading(
            sentence=(
                "The weights kept for perceptual and for textual tokens overlap more than if "
                "their activations had nothing in common."
            ),
            statistic=(
                "IoU of the weights kept for perceptual and for textual tokens of a data set, "
                "minus the mean IoU under permuted activations, mean over data sets, 50 % kept"
            ),
            margin=Margin(0.02, "An IoU of 0.02 is one weight in fifty."),
            unit="contents",
            figure="the overlaps of finding 2",
        ),
        as_tested=Reading(
            sentence=(
                "Percepts and text share at least half of the overlap that two sets of texts reach."
            ),
            statistic=(
                "(IoU(P, T) − permuted) / (IoU(T, T′) − permuted), each the mean over data sets "
                "or pairs of them and each under its own permutations; P and T of one data set, "
                "T and T′ texts of two; 50 % kept"
            ),
            margin=Margin(
                0.05,
                "Another choice of samples changes the attainable overlap by about a twentieth.",
            ),
            unit="contents",
            figure="the overlaps of finding 2",
            null=0.5,
        ),
        other_work=(
            "{cite:t}`cui2026` agree: language models and vision-language models share more than "
            "half of their most active units during inference. {cite:t}`huang2024` disagree in "
            "part: switching off a few neurons that are specific to a modality more than halves "
            "the score. Our readings compare weights that Wanda keeps, at one sparsity."
        ),
    ),
    Claim(
        "F2.2",
        "transfer",
        ("The weights kept for one task or modality also serve the others."),
        page="finding2-transfer",
        as_stated=Reading(
            sentence=(
                "With the mask of another modality (within one modality, of another task), a "
                "model answers better than with a random mask."
            ),
            statistic=(
                "task score with another modality's (within one modality, another task's) mask "
                "minus with a random mask, mean over tasks and at least 20 random masks, 50 % kept"
            ),
            margin=SCORE_MARGIN,
            unit="contents",
            figure="the transfer of masks in finding 2",
        ),
        as_tested=Reading(
            sentence=(
                "With the mask of another modality (within one modality, of another task), a model "
                "loses at most one answer in twenty against the task's own mask."
            ),
            statistic=(
                "task score with another modality's (within one modality, another task's) mask "
                "minus with the task's own mask, mean over tasks, 50 % kept"
            ),
            margin=Margin(
                0, ("The null of −0.05 is the margin: the test is one of non-inferiority.")
            ),
            unit="contents",
            figure="the transfer of masks in finding 2",
            null=-0.05,
        ),
    ),
    Claim(
        "F3.1",
        "alignment over depth",
        ("Perceptual and textual tokens become more similar with depth."),
        page="finding3",
        as_stated=Reading(
            sentence=(
                "Percepts and text are more similar after the last block than after the first."
            ),
            statistic=("PvsT at the last layer minus at layer 1, in cosine"),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 7",
        ),
        as_tested=Reading(
            # A text that reads its percepts carries a trace of them, even of noise and in random
            # blocks; sinks and rogue dimensions hide the rest (page What cosine sees).
            sentence=(
                "With depth, percepts grow more similar to their own text than to other texts, "
                "even if the text cannot read them and rogue dimensions are removed."
            ),
            statistic=(
                "PvsT of matched pairs minus PvsT of all pairs with attention between the kinds "
                "blocked, at the last layer minus at layer 1, in cosine, the least of three "
                "treatments of the means: without sinks, without rogue dimensions, standardised"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 7",
        ),
        other_work=(
            "{cite:t}`sun2024massive` find massive activations at a few positions of language "
            "models, and {cite:t}`kang2025` find them at visual tokens, in the same dimensions; "
            "{ref}`cosine` shows how these sinks shape PvsT. {cite:t}`venhoff2025`, with a frozen "
            "encoder, a frozen language model and a linear connector, agree: visual states "
            "approach language features gradually, and converge in middle to late layers. "
            "{cite:t}`wu2025` agree for the middle layers. {cite:t}`wybitul2026` disagree: images "
            "and texts of one concept are aligned from the first layer."
        ),
    ),
    Claim(
        "F3.2",
        "alignment over training",
        ("Perceptual and textual tokens become more similar while the connector is trained."),
        page="finding3-training",
        as_stated=Reading(
            sentence=("The IMA score is higher after training than before."),
            statistic=("IMA score at the last training step minus before the first, in cosine"),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 7",
        ),
        as_tested=Reading(
            sentence=(
                "Training makes percepts more similar to their own text than to other texts, "
                "even if the text cannot read them and rogue dimensions are removed."
            ),
            statistic=(
                "IMA score of matched pairs minus IMA score of all pairs with attention between "
                "the kinds blocked, at the last training step minus before the first, in cosine, "
                "the least of three treatments of the means: without sinks, without rogue "
                "dimensions, standardised"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 7",
        ),
    ),
    Claim(
        "F3.3",
        "steering blocks",
        (
            "Inside the blocks, perceptual and textual tokens are more similar than in the "
            "residual stream."
        ),
        page="finding3-blocks",
        as_stated=Reading(
            sentence=(
                "At each hook point inside the blocks, norms included, percepts and text are more "
                "similar than in the residual stream of the same layer."
            ),
            statistic=(
                "minimum over hook points inside the block of their PvsT minus that of the "
                "residual stream of the same layer, mean over layers, in cosine"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 8",
        ),
        as_tested=Reading(
            sentence=(
                "Percepts and text are more similar in attention outputs, FFN outputs and FFN "
                "hidden units than in the stream that the block reads, even without rogue "
                "dimensions."
            ),
            statistic=(
                "minimum over the output of attention, the hidden units of the FFN and its "
                "output of their PvsT minus that of the stream that the block reads, mean over "
                "layers, in cosine, the least of three treatments of the means: without sinks, "
                "without rogue dimensions, standardised"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="figure 8",
        ),
    ),
    Claim(
        "F3.4",
        "controls",
        ("Alignment comes from trained weights and from real inputs."),
        page="finding3-controls",
        as_stated=Reading(
            sentence=(
                "The IMA score of the model is above that of noise inputs, random weights and "
                "blocked attention."
            ),
            statistic=(
                "IMA score minus the largest among noise inputs, random weights and blocked "
                "attention, in cosine"
            ),
            margin=COSINE_MARGIN,
            unit="contents",
            figure="the controls of finding 3",
        ),
        as_tested=Reading(
            sentence=(
                "The IMA score of the model is above that of nearly all draws of the controls."
            ),
            statistic=(
                "IMA score over pairs of different samples minus the largest control, chosen "
                "anew in each draw of noise and of random weights, in cosine: 95 % of the draws"
            ),
            margin=COSINE_MARGIN,
            unit="draws of the controls",
            figure="the controls of finding 3",
            fewest=50,
        ),
    ),
)
