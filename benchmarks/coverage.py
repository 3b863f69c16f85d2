"""How often the intervals contain the truth: simulated classifiers whose true numbers are known.

    python benchmarks/coverage.py                      all cells, about ten minutes on one core
    python benchmarks/coverage.py --simulations 50     a quick look

Three classes (half, three tenths, two tenths of the images); the logits are noise plus a signal on
the true class, as strong as the accuracy of the row asks for. The truth is measured on a million
images. An interval of 95 % should contain it in 95 % of the simulations. The accuracy's interval
(Wilson) needs no simulation: its coverage is the exact sum over the binomial distribution.
"""

import argparse

import numpy as np
from scipy.stats import binom

from labelwise.measure import METRICS, wilson
from labelwise.measure.evaluation import bootstrap_intervals
from labelwise.measure.metrics import sample_values
from labelwise.measure.scoring import Scorer

SIZES = (20, 50, 100, 200, 500)
ACCURACIES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
SHARES = (0.5, 0.3, 0.2)  # of the images, per class
NAMES = ("macro_f1", "mcc", "log_loss", "brier", "ece", "auroc", "average_precision")


def draw(signal: float, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels (n,) and probabilities (n, 3) of a classifier that is as good as `signal`."""
    labels = rng.choice(len(SHARES), size=n, p=SHARES)
    logits = rng.normal(size=(n, len(SHARES)))
    logits[np.arange(n), labels] += signal
    proba = np.exp(logits - logits.max(axis=1, keepdims=True))
    return labels, proba / proba.sum(axis=1, keepdims=True)


def signal_for(accuracy: float) -> float:
    """The signal that gives this accuracy, by bisection on 200,000 images."""
    low, high = 0.0, 10.0
    for _ in range(30):
        middle = (low + high) / 2
        labels, proba = draw(middle, 200_000, np.random.default_rng(0))
        low, high = (
            (middle, high) if (proba.argmax(axis=1) == labels).mean() < accuracy else (low, middle)
        )
    return low


def truth(signal: float) -> dict[str, float]:
    """The metrics on a million images."""
    sample = Scorer(*draw(signal, 1_000_000, np.random.default_rng(1))).sample(
        np.ones((1, 1_000_000))
    )
    return {name: float(value[0]) for name, value in sample_values(sample, NAMES).items()}


def wilson_coverage(accuracy: float, n: int) -> float:
    """Exact: the chance of those counts whose interval contains the accuracy."""
    found = [wilson(k, n) for k in range(n + 1)]
    inside = np.array([i.low <= accuracy <= i.high for i in found])
    return float(binom.pmf(np.arange(n + 1), n, accuracy) @ inside)


def bca_coverage(
    signal: float, true: dict[str, float], n: int, simulations: int, resamples: int, seed: int
) -> dict[str, float]:
    """Fraction of simulated evaluations whose interval contains the truth, per metric."""
    rng = np.random.default_rng([seed, n])
    hits: dict[str, list[bool]] = {name: [] for name in NAMES}
    for simulation in range(simulations):
        scorer = Scorer(*draw(signal, n, rng))

        found = bootstrap_intervals(
            scorer, NAMES, np.arange(n), resamples=resamples, level=0.95, seed=simulation, n=n
        )
        for name, interval in found.items():
            if not np.isnan(interval.value):
                hits[name].append(interval.low <= true[name] <= interval.high)
    return {name: float(np.mean(values)) for name, values in hits.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--simulations", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(
        f"coverage of 95 % intervals, in percent; {args.simulations} simulations, "
        f"{args.resamples} resamples, seed {args.seed}\n"
    )
    labels = ["accuracy", *(METRICS[name].label for name in NAMES)]
    print("| n | true accuracy | " + " | ".join(labels) + " |")
    print("|--:|--:|" + "--:|" * len(labels))
    signals = {accuracy: signal_for(accuracy) for accuracy in ACCURACIES}
    truths = {accuracy: truth(signal) for accuracy, signal in signals.items()}
    for n in SIZES:
        for accuracy in ACCURACIES:
            found = bca_coverage(
                signals[accuracy], truths[accuracy], n, args.simulations, args.resamples, args.seed
            )
            values = [wilson_coverage(accuracy, n), *(found[name] for name in NAMES)]
            cells = " | ".join(f"{100 * value:.1f}" for value in values)
            print(f"| {n} | {accuracy} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
