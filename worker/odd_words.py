"""The words for what is odd about an image, as results, tables and options use them: without imports."""

NOT_A_RADIOGRAPH = "not-a-radiograph"
INVERTED = "inverted"
TURNED = ("turned-90", "turned-180", "turned-270")  # degrees clockwise from upright
MIRRORED = "mirrored"
UNLIKE_TRAINING = "unlike-training"

ODD_WORDS = (NOT_A_RADIOGRAPH, INVERTED, *TURNED, MIRRORED, UNLIKE_TRAINING)

# Why an image failed that was refused for being odd.
ODD_REASON = "odd"

FLAG, REFUSE = "flag", "refuse"
ODD_CHOICES = (FLAG, REFUSE)

# What to do about an image, by the word that was found.
ADVICE = {
    NOT_A_RADIOGRAPH: "looks like no radiograph of a chest; leave it out",
    INVERTED: "looks inverted, bones dark on bright lungs; export it with bones bright",
    **{
        word: f"looks turned by {word.removeprefix('turned-')} degrees clockwise; save it upright"
        for word in TURNED
    },
    MIRRORED: "looks mirrored, the heart on the other side; check its side markers and save it as taken",
    UNLIKE_TRAINING: "looks unlike the images that the model learned from; look at it, or use another model",
}


def refusal(name: str, odd: str) -> str:
    """One line that says what is odd about the image `name` and how to fix it; `odd` as in results."""
    found = "; ".join(ADVICE[word] for word in odd.split(","))
    return f"{name} {found}; run with --odd flag to explain it all the same"
