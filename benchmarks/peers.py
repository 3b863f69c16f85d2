"""The same job in labelwise, fastai, Keras and a timm script: accuracy, seconds, lines.

    python benchmarks/peers.py --out peers-run --fastai-python PATH --keras-python PATH \
      --timm-python PATH [--same-time]

A folder of photos, two classes, 100 labels of each (--labels), drawn anew for every draw; judged on
images that none of them gets with a label (--test of each class; of near duplicates there one is
kept, and none is among the labels). Every user code is a file in benchmarks/peers, run as a process
of its own; its answers are a CSV, judged here. They take turns. All start from one file of weights
(EfficientNet-Lite0), which lies where timm would have downloaded it to, and for Keras is converted
and checked. --same-time gives those that took fewer processor seconds than labelwise, besides, as
many epochs as fit into its. A run that was interrupted goes on where it was. The peers are no
dependencies of labelwise:

    python3.11 -m venv fastai && fastai/bin/pip install fastai timm
    python3.11 -m venv keras && keras/bin/pip install tensorflow-cpu keras pillow
    python3.11 -m venv timm && timm/bin/pip install timm torch torchvision
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import labelwise as lw
from labelwise.backbones import find_pretrained
from labelwise.data.dataset import Dataset
from labelwise.errors import OptionError
from labelwise.measure import Interval, evaluate, wilson
from labelwise.measure.verdicts import holm, verdicts

CODE = Path(__file__).parent / "peers"
ARCHITECTURE = "tf_efficientnet_lite0"
HELD_OUT = 0.2  # of the labels: what the peers judge themselves on
SECONDS = "seconds.json"
COVERAGE, MAX_ERROR = 0.9, 0.1  # asked of labelwise


@dataclass(frozen=True)
class Peer:
    """Something that does the job.

    Attributes:
        file: what a user writes.
        imports: what is imported to have its version, and its compiled files.
        claim: finds the accuracy that it prints of itself; the last one counts.
    """

    file: Path
    imports: str
    claim: str = ""

    @property
    def lines(self) -> int:
        """Lines of code: no blank ones, no comments, no docstring (of one line)."""
        lines = self.file.read_text("utf-8").splitlines()
        return sum(bool(line.strip()) and not line.startswith(("#", '"""')) for line in lines)

    @property
    def epochs(self) -> int:
        """Those that the code has."""
        return int(re.findall(r"^EPOCHS = (\d+)$", self.file.read_text("utf-8"), re.M)[0])

    def code(self, epochs: int | None) -> str:
        """The user's code, with other epochs if given."""
        text = self.file.read_text("utf-8")
        return text if epochs is None else re.sub(r"(?m)^EPOCHS = \d+$", f"EPOCHS = {epochs}", text)


PEERS = {
    "labelwise": Peer(CODE / "with_labelwise.sh", "labelwise, torch, timm"),
    "fastai": Peer(
        CODE / "with_fastai.py",
        "fastai, torch, timm",
        r"(?m)^\d+ +\S+ +\S+ +(\d\.\d+) +\d+:\d+",
    ),
    "keras": Peer(CODE / "with_keras.py", "keras, tensorflow", r"val_accuracy: (\d\.\d+)"),
    "timm": Peer(CODE / "with_timm.py", "timm, torch", r"held out (\d\.\d+)"),
}


@dataclass(frozen=True)
class Job:
    """The images: who is labeled in every draw, and who is judged.

    Attributes:
        rows: of the test part; int64 (N,).
        labels: theirs; int64 (N,).
        draws: rows with a label, per draw.
    """

    data: Dataset
    rows: np.ndarray
    labels: np.ndarray
    draws: list[np.ndarray]


@dataclass(frozen=True)
class Result:
    """One process that did the job.

    Attributes:
        proba: of the test images; (N, 2).
        seconds: of the whole process, its start included.
        cpu: processor seconds, of all its threads.
        claimed: what it says of itself, with the interval that goes with so many images.
    """

    proba: np.ndarray
    seconds: float
    cpu: float
    claimed: Interval


def make_job(data: Dataset, per_class: int, judged: int, draws: int) -> Job:
    """Draw the test part, one image a group, and then the labels from the groups that are left."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(data.labeled)
    labels, groups = data.labels, data.groups
    first = rows[np.sort(np.unique(groups[rows], return_index=True)[1])]
    classes = range(len(data.class_names))
    test = np.sort(np.concatenate([first[labels[first] == c][:judged] for c in classes]))
    rest = rows[~np.isin(groups[rows], groups[test])]
    drawn = []
    for draw in range(draws):
        mixed = np.random.default_rng(1 + draw).permutation(rest)
        parts = [mixed[labels[mixed] == c][:per_class] for c in classes]
        drawn.append(np.sort(np.concatenate(parts)))
    return Job(data, test, labels[test], drawn)


def write_photos(job: Job, out: Path) -> None:
    """The folders that everybody gets: train/CLASS/*.png of a draw, and test/*.png."""
    for row in job.rows:
        write_photo(job.data, row, out / "test")
    for draw, rows in enumerate(job.draws):
        for row in rows:
            name = job.data.class_names[job.data.labels[row]]
            write_photo(job.data, row, out / f"draw-{draw}" / "train" / name)


def write_photo(data: Dataset, row: int, folder: Path) -> None:
    """A lossless copy, named by its row."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{row:05d}.png"
    if not file.exists():
        Image.fromarray(data.images([row]).read(0)).save(file)


def write_weights(out: Path, keras_python: str | None) -> None:
    """The one file of weights, in timm's names where its download would be, and for Keras."""
    found = find_pretrained("efficientnet-lite0")
    state = found.rename(torch.load(found.file, weights_only=True))
    repository = timm.get_pretrained_cfg(ARCHITECTURE).hf_hub_id
    hub = out / "hub" / "hub" / f"models--{repository.replace('/', '--')}"
    snapshot = hub / "snapshots" / found.sha256[:40]
    snapshot.mkdir(parents=True, exist_ok=True)
    (hub / "refs").mkdir(exist_ok=True)
    (hub / "refs" / "main").write_text(snapshot.name)
    tensors = {name: value.contiguous() for name, value in state.items()}
    save_file(tensors, snapshot / "model.safetensors")
    if keras_python is None or (out / "efficientnet-lite0.keras").exists():
        return
    net = timm.create_model(ARCHITECTURE)
    net.load_state_dict(state)
    pixels = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        maps = net.eval().forward_features(pixels).numpy()
    arrays = {name: value.numpy() for name, value in state.items()}
    seen = pixels.permute(0, 2, 3, 1).numpy()
    np.savez(out / "weights.npz", **arrays, pixels=seen, maps=maps)
    command = [
        keras_python,
        CODE / "efficientnet_lite.py",
        "weights.npz",
        "efficientnet-lite0.keras",
    ]
    said = subprocess.run(
        command, cwd=out, env=environment(out, out), check=True, capture_output=True, text=True
    )
    print(f"Embeddings in Keras differ from timm's by {said.stdout.strip()} of the largest value.")


def environment(out: Path, place: Path) -> dict[str, str]:
    """Nobody downloads, threads wait asleep, and labelwise has nothing stored yet."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HF_HOME": str((out / "hub").resolve()),
        "HF_HUB_OFFLINE": "1",
        "KERAS_BACKEND": "tensorflow",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "LABELWISE_CACHE": str((place / "cache").resolve()),
    }


def versions(python: str, peer: Peer) -> str:
    """Names and versions of the libraries, which are compiled by the way."""
    names = peer.imports.split(", ")
    shown = ", ".join(f"'{name} ' + {name}.__version__" for name in names)
    code = f"import {peer.imports}; print({shown}, sep=', ')"
    found = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return found.stdout.strip()


def do(name: str, python: str, out: Path, draw: int, epochs: int | None = None) -> Path:
    """Run a user's code in a folder of its own; SECONDS is written last."""
    place = out / f"draw-{draw}" / (name if epochs is None else f"{name}-{epochs}")
    if (place / SECONDS).exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "train").symlink_to("../train")
    (place / "test").symlink_to("../../test")
    (place / "efficientnet-lite0.keras").symlink_to("../../efficientnet-lite0.keras")
    peer = PEERS[name]
    script = place / f"job{peer.file.suffix}"
    script.write_text(peer.code(epochs), "utf-8")
    command = ["sh", "-e"] if peer.file.suffix == ".sh" else [python]
    with (place / "said.txt").open("w") as said:
        started, before = time.perf_counter(), processor_seconds()
        subprocess.run(
            [*command, script.name],
            cwd=place,
            env=environment(out, place),
            stdout=said,
            stderr=subprocess.STDOUT,
            check=True,
        )
        seconds, cpu = time.perf_counter() - started, processor_seconds() - before
    (place / SECONDS).write_text(json.dumps({"seconds": seconds, "cpu": cpu}))
    print(f"draw {draw}, {place.name}: {seconds:.0f} s, {cpu:.0f} s of a core", flush=True)
    return place


def processor_seconds() -> float:
    """Of all processes that have been waited for, all threads."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def result_of(place: Path, job: Job) -> Result:
    """What a process left behind."""
    table = pd.read_csv(place / "answers.csv")
    rows = table["path"].map(lambda path: int(Path(path).stem)).to_numpy()
    table = table.iloc[pd.Index(rows).get_indexer(job.rows)]
    names = list(job.data.class_names)
    said = table["label"].map(names.index).to_numpy()
    proba = np.empty((len(said), 2))
    proba[np.arange(len(said)), said] = table["probability"]
    proba[np.arange(len(said)), 1 - said] = 1 - table["probability"]
    return Result(proba, **taken(place), claimed=claim_of(place, len(job.draws[0])))


def taken(place: Path) -> dict[str, float]:
    """Seconds and processor seconds."""
    return json.loads((place / SECONDS).read_text("utf-8"))


def claim_of(place: Path, labels: int) -> Interval:
    """The accuracy that is stated: by labelwise with an interval, by others in what they print."""
    if (board := place / "run" / "leaderboard.json").exists():
        found = json.loads(board.read_text("utf-8"))
        row = next(row for row in found["rows"] if row["variant"] == found["recommended"])
        value = row["metrics"]["accuracy"]
        return Interval(value["value"], value["low"], value["high"], value["n"], "wilson")
    peer = PEERS[place.name.split("-")[0]]
    stated = float(re.findall(peer.claim, (place / "said.txt").read_text("utf-8"))[-1])
    judged = int(HELD_OUT * labels)
    return wilson(round(stated * judged), judged)


def epochs_in(name: str, python: str, out: Path, cpu: float) -> int:
    """How many epochs of a peer take so long, from what one takes and what its own number does."""
    one, own = (taken(do(name, python, out, 0, epochs))["cpu"] for epochs in (1, None))
    return max(1, 1 + int((cpu - one) / ((own - one) / (PEERS[name].epochs - 1))))


def percent(interval: Interval) -> str:
    """With its limits."""
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    return f"{value:.1f} % ({low:.1f} to {high:.1f})"


def chance_text(p: float) -> str:
    """A chance as the documents write it."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def main_table(job: Job, results: dict[str, list[Result]], lines: dict[str, int]) -> str:
    """Markdown: a row per way to do the job."""
    draws = len(job.draws)
    labels, images = np.tile(job.labels, draws), np.tile(job.rows, draws)
    pooled = {n: np.concatenate([r.proba for r in found]) for n, found in results.items()}
    others = [name for name in results if name != "labelwise"]
    pairs = [
        verdicts(labels, {n: pooled[n] for n in ("labelwise", other)}, images=images)[0]
        for other in others
    ]
    chances = dict(zip(others, holm([pair.p for pair in pairs]), strict=True))
    pair_of = dict(zip(others, pairs, strict=True))
    text = [
        "| | lines | seconds | of a core | accuracy | deviation over draws "
        "| labelwise is better by | calibration error |",
        "|---|" + "--:|" * 7,
    ]
    for name, found in results.items():
        judged = evaluate(labels, pooled[name], images=images, class_names=job.data.class_names)
        values = [float((r.proba.argmax(1) == job.labels).mean()) for r in found]
        spread = f"{100 * stdev(values):.1f}" if draws > 1 else ""
        better = ""
        if name in pair_of:
            pair = pair_of[name]
            sign = 1 if pair.a == "labelwise" else -1
            low, high = sorted((sign * pair.low, sign * pair.high))
            better = (
                f"{100 * sign * pair.difference:.1f} ({100 * low:.1f} to {100 * high:.1f}), "
                + chance_text(chances[name])
            )
        text.append(
            f"| {name} | {lines[name]} | {mean(r.seconds for r in found):.0f} "
            f"| {mean(r.cpu for r in found):.0f} "
            f"| {percent(judged.metrics['accuracy'])} | {spread} | {better} "
            f"| {judged.metrics['ece'].value:.3f} |"
        )
    return "\n".join(text)


def draws_table(job: Job, results: dict[str, list[Result]]) -> str:
    """Markdown: what each says of itself, and what the test says, draw by draw."""
    text = ["| | draw | says of itself | images | test | seconds |", "|---|--:|---|--:|---|--:|"]
    for name, found in results.items():
        for draw, result in enumerate(found):
            right = int((result.proba.argmax(1) == job.labels).sum())
            text.append(
                f"| {name} | {draw} | {percent(result.claimed)} | {result.claimed.n} "
                f"| {percent(wilson(right, len(job.labels)))} | {result.seconds:.0f} |"
            )
    return "\n".join(text)


def own_answers(job: Job, out: Path) -> str:
    """What labelwise says when it may say that it does not know."""
    text = ["| draw | recommended | unknown | set holds the class | answered | right of these |"]
    text.append("|--:|---|--:|--:|--:|--:|")
    names = np.array(job.data.class_names)[job.labels]
    files = [str(out / "test" / f"{row:05d}.png") for row in job.rows]
    for draw in range(len(job.draws)):
        run = out / f"draw-{draw}" / "labelwise" / "run"
        sets = lw.predict(run, files, unknown=0, coverage=COVERAGE)["set"]
        holds = np.mean([name in found for name, found in zip(names, sets, strict=True)])
        unknown = (lw.predict(run, files)["status"] == "unknown").mean()
        try:
            sure = lw.predict(run, files, unknown=0, max_error=MAX_ERROR)
            answered = (sure["status"] == "ok").to_numpy()
            right = (sure["label"].to_numpy() == names)[answered]
            last = f"{answered.mean():.1%} | {right.mean():.1%}"
        except OptionError:
            last = "refused: too many wrong, or too few to know |"
        chosen = json.loads((run / "leaderboard.json").read_text("utf-8"))["recommended"]
        text.append(f"| {draw} | {chosen} | {unknown:.1%} | {holds:.1%} | {last} |")
    return "\n".join(text).replace("%", " %")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="elpv", help="two classes; by default elpv")
    parser.add_argument("--target")
    parser.add_argument("--labels", type=int, default=100, help="of each class")
    parser.add_argument("--test", type=int, default=400, help="images of each class")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything")
    parser.add_argument("--same-time", action="store_true")
    for name in ("fastai", "keras", "timm"):
        parser.add_argument(f"--{name}-python", help="a Python with it; without, it is left out")
    return parser.parse_args()


def main() -> None:
    """Prepare, run, print."""
    args = options()
    pythons = {"labelwise": sys.executable}
    for name in ("fastai", "keras", "timm"):
        if python := getattr(args, f"{name}_python"):
            pythons[name] = str(Path(python).absolute())
    out = args.out.absolute()
    job = make_job(lw.load(args.data, target=args.target), args.labels, args.test, args.draws)
    write_photos(job, out)
    write_weights(out, pythons.get("keras"))
    for name, python in pythons.items():
        print(f"{name}: {versions(python, PEERS[name])}", flush=True)

    results: dict[str, list[Result]] = {name: [] for name in pythons}
    for draw in range(args.draws):
        for name, python in pythons.items():
            results[name].append(result_of(do(name, python, out, draw), job))
    lines = {name: PEERS[name].lines for name in pythons}
    if args.same_time:
        cpu = mean(result.cpu for result in results["labelwise"])
        shorter = [n for n, found in results.items() if mean(r.cpu for r in found) < cpu]
        epochs = {name: epochs_in(name, pythons[name], out, cpu) for name in shorter}
        for draw in range(args.draws):
            for name, count in epochs.items():
                longer = f"{name}, {count} epochs"
                lines[longer] = lines[name]
                place = do(name, pythons[name], out, draw, count)
                results.setdefault(longer, []).append(result_of(place, job))
    judged = len(job.labels)
    print(f"\n{job.data.name}: {len(job.draws[0])} labels, draws: {args.draws}, {judged} judged\n")
    print(main_table(job, results, lines), draws_table(job, results), sep="\n\n")
    print(f"\nlabelwise, --coverage {COVERAGE} and --max-error {MAX_ERROR}:\n")
    print(own_answers(job, out))


if __name__ == "__main__":
    main()
