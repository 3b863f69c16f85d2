"""Multinomial logistic regression, many problems at once: every fold and strength in one go.

Problem p minimizes over W (D, K) and b (K,)

    sum_i w[p, i] * cross_entropy(x_i W + b, y_i) / sum_i w[p, i]  +  strength[p] / 2 * ||W||^2

on features that are standardized with the mean and deviation of its own images (w > 0), so that
no held-out image has a say in anything. scikit-learn's C is 1 / (strength * sum of weights).

Of few images a feature's variance is hardly known, and many features of a network are zero for
nearly all of them: dividing by it blows up noise. Variances are therefore shrunken towards the mean
variance of the features of the same block, a stage of a network: (n * own + 20 * mean) / (n + 20).
docs/results.md has what that is worth.

The problems share the features, so that a step is a few matrix products over all of them. The
method is L-BFGS (Nocedal and Wright, Numerical Optimization, algorithm 7.4) with backtracking;
since the logits are linear in the step, trying a step length costs no matrix product. Embeddings
are strongly correlated, which plain L-BFGS takes hundreds of steps for; the inverse of the Hessian
that the shared covariance predicts (Böhning 1992) as its starting matrix brings that down to some
tens. A few hundred leading directions of the covariance are enough for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch

MEMORY = 10  # pairs of L-BFGS
SOLVED = 1e-6  # part of the loss that is left
NEGLIGIBLE = 0.01  # loss, below which no more digits are of use
LEADING = 256  # directions of the covariance that the starting matrix knows by themselves
PRIOR = 20  # images' worth of the mean variance of a block in that of each of its features
LARGEST_LOGITS = 2**26  # numbers (rows x problems x classes) in one batch of problems: 256 MB


@dataclass(frozen=True)
class Heads:
    """Solutions on the raw features: logits = features @ weight[p] + bias[p].

    weight float32 (P, D, K), bias float32 (P, K). A class without an image in a problem has a bias
    so low that it is never chosen.
    """

    weight: torch.Tensor
    bias: torch.Tensor


class LogisticSolver:
    """Solves logistic regressions on one set of features.

    Args:
        features: float32 (N, D).
        classes: K.
        blocks: widths of groups of features in which variances are shrunken; None: no groups.
    """

    def __init__(
        self,
        features: torch.Tensor,
        classes: int,
        blocks: Sequence[int] | None = None,
    ) -> None:
        self.block = block_numbers(blocks, features.shape[1])
        # One common shift and scale for the numerics; a problem's own standardization is on top.
        self.center = features.mean(0)
        scale = shrunken(features.var(0, correction=0), len(features), self.block).sqrt()
        self.scale = torch.where(scale > 1e-7, scale, torch.ones_like(scale))
        self.x = (features - self.center) / self.scale
        self.classes = classes
        self.basis = _Basis(self.x, classes)

    def solve(
        self,
        labels: torch.Tensor,
        weights: torch.Tensor,
        strengths: torch.Tensor,
        *,
        rows: torch.Tensor | None = None,
        tolerance: float = SOLVED,
        steps: int = 300,
    ) -> Heads:
        """Solve P problems.

        Args:
            labels: int64 (N,), 0..K-1; ignored where a problem's weight is 0.
            weights: float32 (P, N), not negative; 0 leaves an image out of a problem.
            strengths: float32 (P,), positive.
            rows: of the features, if only these are looked at: then N is their number.
            tolerance: how far the loss may be above its minimum, about, as a part of itself,
                or of NEGLIGIBLE if it is below that.
            steps: at most.
        """
        x = self.x if rows is None else self.x[rows]
        size = max(1, LARGEST_LOGITS // max(1, len(x) * self.classes))
        parts = []
        for start in range(0, len(strengths), size):
            part = slice(start, start + size)
            work = _Problems(self, x, labels, weights[part], strengths[part])
            parts.append(
                self._heads(work, _solve(work, self.basis, work.zeros(), tolerance, steps))
            )
        return Heads(torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts]))

    def path(
        self,
        labels: torch.Tensor,
        weights: torch.Tensor,
        strengths: Sequence[float],
        *,
        rows: torch.Tensor | None = None,
        tolerance: float = SOLVED,
        steps: int = 300,
    ) -> Iterator[Heads]:
        """Solve P problems at one strength after the other, from each solution to the next; see
        `solve`. Strong ones first are the shortest way."""
        x = self.x if rows is None else self.x[rows]
        work = _Problems(self, x, labels, weights, torch.ones(len(weights)))
        theta = work.zeros()
        for strength in strengths:
            work.strengths = torch.full((len(weights),), strength)
            theta = _solve(work, self.basis, theta, tolerance, steps)
            yield self._heads(work, theta)

    def _heads(self, work: _Problems, theta: torch.Tensor) -> Heads:
        """Solutions for features as they come."""
        weight = theta[:, :-1] * work.inverse[:, :, None]
        bias = theta[:, -1] - torch.einsum("pd,pdk->pk", work.mean, weight)
        lowest = bias.amin(1, keepdim=True) - 1e3
        bias = torch.where(work.present, bias, lowest)
        weight = torch.where(work.present[:, None], weight, 0.0) / self.scale[:, None]
        return Heads(weight, bias - torch.einsum("d,pdk->pk", self.center, weight))


def block_numbers(blocks: Sequence[int] | None, width: int) -> torch.Tensor | None:
    """Number of every feature's block, int64 (width,).

    Raises:
        ValueError: the blocks' widths do not sum to the number of features.
    """
    if blocks is None:
        return None
    if sum(blocks) != width:
        raise ValueError(f"blocks of {list(blocks)} features do not make {width}")
    return torch.arange(len(blocks)).repeat_interleave(torch.tensor(blocks))


def shrunken(
    variance: torch.Tensor, count: torch.Tensor | int, block: torch.Tensor | None
) -> torch.Tensor:
    """Variances (..., D) of features over `count` images, drawn to the mean of their block.

    Args:
        block: see `block_numbers`; None leaves the variances as they are.
    """
    if block is None:
        return variance
    blocks = torch.nn.functional.one_hot(block).to(variance.dtype)  # (D, B)
    means = variance @ blocks / blocks.sum(0)
    return (count * variance + PRIOR * means[..., block]) / (count + PRIOR)


class _Basis:
    """Leading eigenvectors of the shared covariance, for a starting guess of every inverse Hessian;
    the other directions are taken to vary as they do on average.

    It speeds the way to the solution and has no part in where that is.
    """

    def __init__(self, x: torch.Tensor, classes: int) -> None:
        count, width = x.shape
        self.curvature = (classes - 1) / classes**2  # of the softmax at equal probabilities
        self.vectors = _leading(x, min(LEADING, count, width))  # (D, R)
        self.values = (x @ self.vectors).square().mean(0)  # (R,)
        left = x.square().mean(0).sum() - self.values.sum()
        self.rest = left.clamp(min=0) / max(1, width - self.vectors.shape[1])

    def apply(self, gradient: torch.Tensor, strengths: torch.Tensor) -> torch.Tensor:
        """Approximate inverse Hessian times (P, D + 1, K)."""
        count, rows, classes = gradient.shape
        flat = gradient[:, :-1].transpose(0, 1).reshape(rows - 1, -1)
        inside = (self.vectors.T @ flat).view(len(self.values), count, classes)
        outside = 1 / (self.curvature * self.rest + strengths)  # (P,)
        inverse = 1 / (self.curvature * self.values[:, None] + strengths) - outside  # (R, P)
        product = self.vectors @ (inside * inverse[:, :, None]).view(len(self.values), -1)
        product = product.view(rows - 1, count, classes).transpose(0, 1)
        product = product + gradient[:, :-1] * outside[:, None, None]
        return torch.cat([product, gradient[:, -1:] / self.curvature], 1)


def _leading(x: torch.Tensor, rank: int) -> torch.Tensor:
    """Leading right singular vectors (D, rank), by subspace iteration from a fixed random start
    (Halko et al. 2011, arXiv:0909.4061, algorithm 4.4)."""
    start = torch.randn(x.shape[1], rank, generator=torch.Generator().manual_seed(0))
    found = torch.linalg.qr(x.T @ (x @ start.to(x)))[0]
    found = torch.linalg.qr(x.T @ (x @ found))[0]
    inside = x @ found
    vectors = torch.linalg.eigh(inside.T @ inside)[1]
    return found @ vectors


class _Problems:
    """Loss and gradient of all problems of a batch, in standardized coordinates.

    theta is (P, D + 1, K): the weights of the standardized features and, last, the bias.
    """

    def __init__(
        self,
        solver: LogisticSolver,
        x: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        strengths: torch.Tensor,
    ) -> None:
        self.x, self.labels, self.classes = x, labels, solver.classes
        self.strengths = strengths
        used = (weights > 0).to(x.dtype)
        count = used.sum(1, keepdim=True).clamp(min=1)
        self.mean = used @ x / count  # (P, D)
        variance = (used @ x.square() / count - self.mean.square()).clamp(min=0)
        # A constant feature tells nothing: it gets no weight rather than a huge one. Far from zero,
        # rounding gives it some variance.
        varies = variance > 1e-8 + 1e-5 * self.mean.square()
        full = shrunken(variance * solver.scale.square(), count, solver.block)
        self.inverse = torch.where(varies, solver.scale * full.rsqrt(), torch.zeros_like(full))
        self.share = weights / weights.sum(1, keepdim=True).clamp(min=1e-12)  # (P, N)
        labels = self.labels.clamp(min=0)
        onehot = torch.nn.functional.one_hot(labels, self.classes).to(x.dtype)  # (N, K)
        self.present = (weights @ onehot) > 0  # (P, K)

    def some(self, index: torch.Tensor) -> _Problems:
        """Some of the problems."""
        part = copy(self)
        for name in ("strengths", "mean", "inverse", "share", "present"):
            setattr(part, name, getattr(self, name)[index])
        return part

    def zeros(self) -> torch.Tensor:
        """Where to start without a better guess."""
        return self.x.new_zeros(len(self.mean), self.x.shape[1] + 1, self.classes)

    def logits(self, theta: torch.Tensor) -> torch.Tensor:
        """(P, D + 1, K) -> (P, N, K); linear in theta."""
        raw = theta[:, :-1] * self.inverse[:, :, None]  # (P, D, K)
        flat = raw.transpose(0, 1).reshape(self.x.shape[1], -1)
        product = (self.x @ flat).view(len(self.x), len(theta), self.classes).transpose(0, 1)
        shift = theta[:, -1] - torch.einsum("pd,pdk->pk", self.mean, raw)
        return product + shift[:, None]

    def loss(self, logits: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """(P,)"""
        masked = logits.masked_fill(~self.present[:, None], -torch.inf)
        right = logits.gather(2, self.labels.clamp(min=0)[None, :, None].expand(len(theta), -1, 1))
        losses = masked.logsumexp(2) - right[:, :, 0]
        # An image left out may be of an absent class, whose loss is infinite: 0 * inf is no number.
        data = torch.where(self.share > 0, losses, 0.0).mul(self.share).sum(1)
        return data + self.strengths / 2 * theta[:, :-1].square().sum((1, 2))

    def gradient(self, logits: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        """(P, D + 1, K)"""
        masked = logits.masked_fill(~self.present[:, None], -torch.inf)
        residual = masked.softmax(2)
        index = self.labels.clamp(min=0)[None, :, None].expand(len(theta), -1, 1)
        residual.scatter_add_(2, index, residual.new_full(index.shape, -1.0))
        residual *= self.share[:, :, None]  # (P, N, K)
        total = residual.sum(1)  # (P, K)
        flat = residual.transpose(0, 1).reshape(len(self.x), -1)
        product = (self.x.T @ flat).view(self.x.shape[1], len(theta), self.classes).transpose(0, 1)
        product = (product - self.mean[:, :, None] * total[:, None]) * self.inverse[:, :, None]
        product = product + self.strengths[:, None, None] * theta[:, :-1]
        return torch.cat([product, total[:, None]], 1)


def _solve(
    work: _Problems, basis: _Basis, theta: torch.Tensor, tolerance: float, steps: int
) -> torch.Tensor:
    """Solutions (P, D + 1, K) of the problems, from a start of this shape."""
    solution, open_ = theta.clone(), torch.arange(len(theta))
    logits = work.logits(theta)
    gradient = work.gradient(logits, theta)
    loss = work.loss(logits, theta)
    going = torch.ones(len(theta), dtype=torch.bool)
    memory: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    for _ in range(steps):
        direction = _direction(gradient, memory, basis, work.strengths)
        slope = (direction * gradient).sum((1, 2))
        # Half the slope is how far the loss is above its minimum where it is nearly quadratic.
        going &= -slope / 2 > tolerance * (loss + NEGLIGIBLE)
        if not going.any():
            break
        # Solved problems cost nothing any more; wait until enough are to pay for the copies.
        if going.sum() <= 0.8 * len(going):
            solution[open_[~going]] = theta[~going]
            open_, theta, logits, loss = open_[going], theta[going], logits[going], loss[going]
            gradient, direction, slope = gradient[going], direction[going], slope[going]
            memory = [(s[going], y[going], r[going]) for s, y, r in memory]
            work = work.some(going)
            going = going[going]
        # Where rounding has spoiled the curvature, fall back to steepest descent.
        bad = slope >= 0
        direction = torch.where(bad[:, None, None], -gradient, direction)
        slope = torch.where(bad, -gradient.square().sum((1, 2)), slope)
        along = work.logits(direction)
        length, loss = _search(work, theta, direction, logits, along, loss, slope)
        going &= length > 0
        moved = length[:, None, None] * direction
        theta = theta + moved
        logits = torch.addcmul(logits, length[:, None, None], along)
        before, gradient = gradient, work.gradient(logits, theta)
        change = gradient - before
        curvature = (moved * change).sum((1, 2))
        memory.append((moved, change, torch.where(curvature > 1e-12, 1 / curvature, 0.0)))
        memory = memory[-MEMORY:]
    solution[open_] = theta
    return solution


def _direction(
    gradient: torch.Tensor,
    memory: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
    basis: _Basis,
    strengths: torch.Tensor,
) -> torch.Tensor:
    """The L-BFGS two-loop recursion, for every problem by itself."""
    q = -gradient
    alphas = []
    for moved, change, inverse in reversed(memory):
        alpha = inverse * (moved * q).sum((1, 2))
        q = torch.addcmul(q, alpha[:, None, None], change, value=-1)
        alphas.append(alpha)
    q = basis.apply(q, strengths)
    for (moved, change, inverse), alpha in zip(memory, reversed(alphas), strict=True):
        beta = inverse * (change * q).sum((1, 2))
        q = torch.addcmul(q, (alpha - beta)[:, None, None], moved)
    return q


def _search(
    work: _Problems,
    theta: torch.Tensor,
    direction: torch.Tensor,
    logits: torch.Tensor,
    along: torch.Tensor,
    loss: torch.Tensor,
    slope: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Backtracking to sufficient decrease (Armijo, 1e-4); length 0 where rounding allows none.

    Near the solution the decrease is smaller than the rounding of the loss, and only the gradient
    still tells a good step; there every step passes (Hager and Zhang 2005, approximate Wolfe).
    """
    length = torch.ones_like(loss)
    rounding = 4 * torch.finfo(loss.dtype).eps * loss.abs()
    for _ in range(25):
        step = length[:, None, None]
        tried = work.loss(logits + step * along, theta + step * direction)
        fine = tried <= loss + 1e-4 * length * slope + rounding
        if fine.all():
            return length, tried
        length = torch.where(fine, length, length / 2)
    return torch.where(fine, length, 0.0), torch.where(fine, tried, loss)
