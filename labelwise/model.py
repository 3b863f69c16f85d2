"""Model: one network with its preprocessing, its class names, and how it came to be."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from scipy.special import logsumexp

from labelwise.backbones import Backbone
from labelwise.data.dataset import Images
from labelwise.data.preprocess import Preprocessing
from labelwise.errors import BundleError, OptionError, UsageError
from labelwise.measure import conformal
from labelwise.measure.calibration import Calibration
from labelwise.measure.novelty import USUAL, Novelty

if TYPE_CHECKING:
    import torch

    from labelwise.data.decode import Decoded
    from labelwise.nn.network import Body, Network

OK = "ok"  # the status of an image that was answered
UNKNOWN = "unknown"  # that of one unlike all that was learned from
UNSURE = "unsure"  # that of one with too little confidence for the rate of errors asked for
AT_ONCE = 4096  # images whose pixels are in memory, at most
BATCH = 256  # images in one forward pass, at most
AREA = 2**20  # their height times width, summed over these images, at most


@dataclass(frozen=True, eq=False)
class Model:
    """An immutable classifier: decoded images in, embeddings and probabilities out.

    Attributes:
        network: uint8 pixels at the input size -> (maps, embedding, logits); without a head, as
            what was trained without any label has none, it only embeds.
        architecture: what `build` needs to make the network again, JSON-safe.
        preprocessing: from a photo of any size to the network's input.
        class_names: names of the classes 0..K-1; empty without a head.
        recipe: name and hyperparameters of the recipe that made it.
        facts: what else is on record: data fingerprint, metrics with intervals, licenses, seed.
        backbone: the frozen pretrained network inside, if its embeddings may come from the store.
        novelty: from when on an image is unknown; None where nothing was judged.
        calibration: how sure it may be of its answers; None where nothing was judged.
    """

    network: Network
    architecture: Mapping[str, Any]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    backbone: Backbone | None = None
    novelty: Novelty | None = None
    calibration: Calibration | None = None

    @property
    def area(self) -> int:
        """Pixels of the largest image that the network computes on; an ensemble enlarges some."""
        sizes = [self.preprocessing.size]
        sizes += [(m["height"], m["width"]) for m in self.architecture.get("members", ())]
        return max(height * width for height, width in sizes)

    def logits(self, images: Images) -> np.ndarray:
        """Logits of images of any size; float32 (N, K).

        Prepared pixels, or the embeddings of a frozen backbone, come from the store where they are
        known, and go there where they are not.

        Raises:
            UsageError: the model has no head.
        """
        return self.answers(images)[0]

    def answers(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Logits, and distances to what was learned from (see `Bank`); float32 (N, K) and (N,).

        Distances are not numbers for a model that remembers nothing.

        Raises:
            UsageError: the model has no head.
        """
        import torch

        self.require_head()
        logits = np.empty((len(images), len(self.class_names)), np.float32)
        distances = np.empty(len(images), np.float32)
        for start in range(0, len(images), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            embedding, logits[some] = self.outputs(images.subset(some))
            distances[some] = self._distances(torch.from_numpy(embedding)).numpy()
        return logits, distances

    def outputs(self, images: Images) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings and logits from one pass over the images; float32 (N, D) and (N, K).

        K is 0 for a model without a head.
        """
        import torch

        if self.backbone is None:
            width = cast("Body", self.network.body).width
            found = self._all(
                images, width + len(self.class_names), lambda answer: torch.cat(answer, 1)
            )
            return found[:, :width], found[:, width:]
        embedding = self.embed(images)
        if self.network.head is None:
            return embedding, embedding[:, :0]
        with torch.inference_mode():
            return embedding, self.network.head(torch.from_numpy(embedding)).numpy()

    def _distances(self, embedding: torch.Tensor) -> torch.Tensor:
        """float32 (N, D) -> (N,)."""
        bank = self.network.bank
        if bank is None:
            return embedding.new_full(embedding.shape[:1], np.nan)
        return bank.distances(embedding.to(self.network.mean.device)).cpu()

    def embed(self, images: Images) -> np.ndarray:
        """Embeddings of images of any size; float32 (N, D)."""
        import torch

        from labelwise.features import embeddings
        from labelwise.nn.projected import Projected

        body = self.network.body
        if self.backbone is None:
            return self._all(images, cast("Body", body).width, lambda found: found[0])
        frozen = embeddings(images, self.backbone, self.preprocessing)
        if not isinstance(body, Projected):
            return frozen.numpy()
        with torch.inference_mode():
            return body.project(frozen).numpy()

    def reconstruct(self, images: Images) -> np.ndarray:
        """What the decoder makes of the codes of images; float32 (N, C, H, W) in [0, 1].

        Raises:
            UsageError: the model has no decoder.
        """
        self._require_decoder()
        return self._decoded(self.embed(images))

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Images of codes drawn from a vae's standard normal; float32 (n, C, H, W) in [0, 1].

        Raises:
            UsageError: it is known of no code how likely it is.
        """
        import torch

        self._require_decoder()
        if self.architecture.get("prior") != "normal":
            raise UsageError(
                "Nothing can be drawn from this model: only the codes of a vae have a known "
                "distribution. Train one with --recipe vae, or use reconstruct."
            )
        width = cast("Body", self.network.body).width
        codes = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
        return self._decoded(codes.numpy())

    def _require_decoder(self) -> None:
        if self.network.decoder is None:
            raise UsageError(
                "This model has no decoder, so it cannot make images. Those of the recipes "
                "autoencoder, joint-autoencoder and vae have one."
            )

    def _decoded(self, codes: np.ndarray) -> np.ndarray:
        """float32 (N, D) -> (N, C, H, W) in [0, 1]."""
        import torch

        network = self.network.eval()
        assert network.decoder is not None
        size = (self.preprocessing.height, self.preprocessing.width)
        result = np.empty((len(codes), len(network.mean), *size), np.float32)
        for start in range(0, len(codes), BATCH):
            some = torch.from_numpy(codes[start : start + BATCH]).to(network.mean.device)
            with torch.inference_mode():
                result[start : start + BATCH] = network.decoder(some).float().cpu().numpy()
        return result

    def _all(
        self,
        images: Images,
        width: int,
        part: Callable[[tuple[torch.Tensor, torch.Tensor]], torch.Tensor],
    ) -> np.ndarray:
        """Embeddings, logits or both of all images: `part` of an answer; float32 (N, width)."""
        from labelwise.features import stored_pixels

        batch = min(BATCH, max(1, AREA // self.area))
        result = np.empty((len(images), width), np.float32)
        for start in range(0, len(images), AT_ONCE):
            some = images.subset(slice(start, start + AT_ONCE))
            pixels = stored_pixels(some, self.preprocessing)
            for place in range(0, len(some), batch):
                found = part(self._forward(pixels[place : place + batch]))
                result[start + place : start + place + len(found)] = found.numpy()
        return result

    def predict_proba(self, images: Images) -> np.ndarray:
        """Class probabilities, calibrated; float64 (N, K), rows sum to 1."""
        return self.probabilities(self.logits(images))

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of logits of this model, at its temperature; float64 (N, K)."""
        return softmax(logits / (self.calibration.temperature if self.calibration else 1.0))

    def predict(
        self,
        paths: Iterable[str | Path] | str | Path,
        *,
        unknown: float | None = None,
        coverage: float | None = None,
        sets: str = conformal.USUAL,
        max_error: float | None = None,
    ) -> pd.DataFrame:
        """Answers for image files and for all images in folders.

        Args:
            unknown: share of images of the known classes that may be called unknown: 0.1, 0.05,
                0.02, 0.01, or 0 for never. None: 0.05, or never if the model was judged on too few
                images to know.
            coverage: how often the true class is to be in the set: 0.8, 0.9, 0.95, 0.98 or 0.99.
                None: no sets.
            sets: how they are made: lac (small ones), aps or raps (larger where it is hard),
                per-class (so often in every class).
            max_error: highest share of wrong answers: 0.1, 0.05, 0.02 or 0.01; images that the
                model is less sure of get no answer. None: all are answered.

        Returns:
            A row per file, in order: path, label (class name), probability (of that class), set
            (names of the classes that cannot be excluded, the most probable first; None without
            `coverage`), status ("ok"; "unknown" for an image unlike all that was learned from;
            "unsure" for one that is not answered because of `max_error`; or why there is no
            answer). A file that cannot be read has a row as well.

        Raises:
            UsageError: the model has no head.
            OptionError: it does not know of such a share, coverage or rate of errors.
        """
        from labelwise.data.decode import decode
        from labelwise.data.source import shown

        self.require_head()
        threshold = self._threshold(unknown)
        least, limits = 0.0, None
        if max_error is not None:
            least = self._judged("max-error", max_error).confidence(max_error)
        if coverage is not None:
            limits = self._judged("coverage", coverage).limits(coverage, sets)
        rows = []
        for path in files_in(paths):
            decoded = decode(path, at_least=self.preprocessing.size)
            row: dict[str, Any] = {"path": shown(path), "label": None, "probability": None}
            row |= {"set": None, "status": f"set aside: {decoded.reason}"}
            if decoded.pixels is not None:
                proba, novelty = self._answer_of(decoded)
                best = int(proba.argmax())
                row["status"] = OK if proba[best] >= least else UNSURE
                if novelty > threshold:
                    row["status"] = UNKNOWN
                elif limits is not None:
                    row["set"] = self._set(decoded, proba, limits, sets)
                if row["status"] == OK:
                    row |= {"label": self.class_names[best], "probability": float(proba[best])}
            rows.append(row)
        return pd.DataFrame(rows, columns=["path", "label", "probability", "set", "status"])

    def pixel_logits(self, pixels: torch.Tensor) -> np.ndarray:
        """Logits of prepared images, uint8 (N, C, H, W) at the input size; float32 (N, K).

        Raises:
            UsageError: the model has no head.
        """
        self.require_head()
        return self._forward(pixels)[1].numpy()

    def _set(
        self, decoded: Decoded, proba: np.ndarray, limits: tuple[float, ...], method: str
    ) -> list[str]:
        """Names of the classes of (K,) probabilities that cannot be excluded."""
        # By its pixels, so that the same image always gets the same set.
        assert decoded.pixels is not None
        seed = int.from_bytes(hashlib.sha256(decoded.pixels.tobytes()).digest()[:8], "big")
        luck = conformal.lucks(1, seed)
        inside = conformal.sets(proba[None], limits, method, luck)[0]
        ranked = np.argsort(-proba, kind="stable")
        return [self.class_names[k] for k in ranked if inside[k]]

    def _judged(self, option: str, value: float) -> Calibration:
        if self.calibration is None:
            raise OptionError(
                f"{option}={value}: this model was not judged on held-out images, so it does not "
                "know how sure it may be. Train it with `labelwise train` or `labelwise compare`."
            )
        return self.calibration

    def _threshold(self, unknown: float | None) -> float:
        """Of the novelty, above which an image is unknown."""
        if self.novelty is not None:
            known = str(USUAL) in self.novelty.thresholds
            return self.novelty.threshold((USUAL if known else 0) if unknown is None else unknown)
        if unknown:
            raise OptionError(
                f"unknown={unknown}: this model does not know what is unlike the images it has "
                "learned from. Train it again with `labelwise train` or `labelwise compare`."
            )
        return np.inf

    def _answer_of(self, decoded: Decoded) -> tuple[np.ndarray, float]:
        """Probabilities of an image, and its novelty, 0 where that is not known."""
        assert decoded.pixels is not None
        pixels = self.preprocessing(decoded.pixels, decoded.full)
        embedding, logits = self._forward(pixels[None])
        proba = self.probabilities(logits.numpy())[0]
        if self.novelty is None:
            return proba, 0.0
        found = self.novelty.scores(energy(logits.numpy()), self._distances(embedding).numpy())
        return proba, float(found[0])

    def require_head(self) -> torch.nn.Module:
        """What turns an embedding into logits.

        Raises:
            UsageError: there is none.
        """
        if self.network.head is None:
            raise UsageError(
                "This model has no head: it was trained without any label, so it can embed images "
                "but not name their class. Use it with `labelwise embed`, or as --backbone."
            )
        return self.network.head

    def _forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embedding and logits, (N, 0) without a head; float32 on the CPU."""
        import torch

        with torch.inference_mode():
            _, embedding, logits = self.network.eval()(pixels.to(self.network.mean.device))
        logits = embedding[:, :0] if logits is None else logits
        if not bool(embedding.isfinite().all()) or not bool(logits.isfinite().all()):
            raise BundleError(
                "The network's answer is not a finite number: its weights are too large for these "
                "images, or damaged. Train it again, or use another model."
            )
        return embedding.float().cpu(), logits.float().cpu()


def files_in(paths: Iterable[str | Path] | str | Path) -> Iterator[Path]:
    """Files as named; of a folder all that is in it, but for hidden names, in order."""
    for path in [paths] if isinstance(paths, str | Path) else paths:
        path = Path(path)
        if not path.is_dir():
            yield path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(folder, name) for name in sorted(names) if not name.startswith("."))


def energy(logits: np.ndarray) -> np.ndarray:
    """How little all classes together are answered with; float (N, K) -> float64 (N,).

    High for images unlike those learned from (Liu et al. 2020, arXiv:2010.03759, equation 4).
    """
    return -logsumexp(logits.astype(np.float64), axis=1)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits (N, K); float64, so that rows sum to 1 closely."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponential = np.exp(shifted)
    return exponential / exponential.sum(axis=1, keepdims=True)
