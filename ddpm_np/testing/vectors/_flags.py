"""What the flags of a case stand for: the mistake that it usually means if that case fails."""

MEANINGS = {
    "E1": "the ε-loss weight lacks α_t in its denominator, as M2 (35) is printed (E1)",
    "E2": "the noise is multiplied by 1 - alpha_bar without its square root, as M1 (19) is printed (E2)",
    "E5": "alpha_bar is a product to T, not to t (E5)",
    "E6": "the variance of a sum is taken from means, not from variances (E6)",
    "E9": "the noise is left out at t = 0, not at t = 1 (E9)",
    "E10": "the ε-loss weight has alpha_bar for alpha, or lacks the square of 1 - alpha (E10)",
    "E11": "q(x_t | x_{t-1}) is missing at t = 1 (E11)",
}


def meaning(flag: str) -> str:
    """Spell out a flag; one that is unknown stands for itself."""
    return MEANINGS.get(flag, flag)
