"""Commands in processes that can be killed, forked from a server that has imported everything.

Importing torch takes longer than a small run. The server has one thread and computes nothing, so
that forking it is sound (`End.server_threads` tells).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import optuna  # noqa: F401
import PIL.Image
import pyarrow.dataset
import pyarrow.parquet  # noqa: F401
import pydantic.type_adapter  # noqa: F401
import rich.table  # noqa: F401
import safetensors.torch  # noqa: F401
import torch

import labelwise.nn.taps
import labelwise.run
import labelwise.tables
import labelwise.tuning.search  # noqa: F401
from labelwise import cli
from labelwise.report.template import templates

PIL.Image.init()
for _name in templates("report").list_templates(["html"]):
    templates("report").get_template(_name)

LONGEST = 100  # seconds that an attempt may take
# What keeps the libraries from starting threads when they are imported.
SINGLE = {"OPENBLAS_NUM_THREADS": "1", "JE_ARROW_MALLOC_CONF": "background_thread:false"}
_LOCK = threading.Lock()  # multiprocessing looks after all children whenever one is started


@dataclass(frozen=True)
class Fate:
    """What happens to an attempt: a signal at a moment, or files that cannot grow.

    Attributes:
        signal: sent once, after `seconds` or at a publish.
        seconds: since the command began.
        publish: number of the publish, from 0; the signal comes when the file has got its name.
        unnamed: just before that instead, when only the temporary file is there.
        largest: bytes that a file can have, as on a full disk.
    """

    signal: int | None = None
    seconds: float | None = None
    publish: int | None = None
    unnamed: bool = False
    largest: int | None = None


@dataclass(frozen=True)
class End:
    """How a command ended.

    Attributes:
        status: of the exit; None if the process was killed.
        out, err: what it printed.
        seconds: that it took.
        publishes: files that were given their name.
        seconds: that the command took.
        ended: when it did, by the clock of all processes.
        sent: when the signal of a fate by the clock was.
        server_threads: of the process it was forked from.
    """

    status: int | None
    out: str = ""
    err: str = ""
    seconds: float = 0.0
    ended: float = 0.0
    sent: float | None = None
    publishes: int = 0
    server_threads: int = 1


def attempt(words: Sequence[object], cache: Path, fate: Fate | None = None) -> End:
    """Run a command of labelwise with a cache of its own, to its end; safe in several threads."""
    fate = fate or Fate()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    connection, theirs = context.Pipe()
    process = context.Process(
        target=_child, args=([str(word) for word in words], str(cache), fate, theirs)
    )
    with _LOCK:
        process.start()
        theirs.close()
    end, sent = End(None), None
    with connection, contextlib.suppress(EOFError, ConnectionResetError):
        _receive(connection, process)  # it is ready
        if fate.seconds is not None and not connection.poll(fate.seconds):  # it has not ended
            sent = time.perf_counter()
            os.kill(process.pid, fate.signal)
        end = _receive(connection, process)
    with _LOCK:
        process.join()
        process.close()
    return dataclasses.replace(end, sent=sent)


def at_once(function: Callable, items: Iterable) -> list:
    """A function of every item, on all cores; an error says of which item."""

    def noted(item):
        try:
            return function(item)
        except BaseException as error:
            error.add_note(repr(item))
            raise

    with ThreadPoolExecutor(max(2, len(os.sched_getaffinity(0)))) as pool:
        return list(pool.map(noted, items))


def moments(number: int, count: int, whole: End, seed: int) -> list[Fate]:
    """Seeded fates: half at any time, half right before or after a publish."""
    rng = np.random.default_rng(seed)
    times = [Fate(number, seconds=s) for s in rng.uniform(0, whole.seconds, count // 2)]
    publishes = rng.choice(whole.publishes, count - count // 2, replace=False)
    return times + [Fate(number, publish=int(n), unnamed=bool(rng.integers(2))) for n in publishes]


def _receive(connection: Connection, process: multiprocessing.Process) -> End:
    if not connection.poll(LONGEST):
        process.kill()
        raise TimeoutError(f"no end after {LONGEST} seconds")
    return connection.recv()


def _child(words: list[str], cache: str, fate: Fate, connection: Connection) -> None:
    os.environ["LABELWISE_CACHE"] = cache
    torch.set_num_threads(1)
    sys.argv = ["labelwise", *words]
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    published = _watched_publishes(fate)
    if fate.largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fate.largest, resource.RLIM_INFINITY))
    started = time.perf_counter()
    try:
        connection.send(None)
        cli.main()
        status = 0
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    ended = time.perf_counter()
    out, err = sys.stdout.getvalue(), sys.stderr.getvalue()
    threads = len(os.listdir(f"/proc/{os.getppid()}/task"))  # noqa: PTH208
    end = End(status, out, err, ended - started, ended)
    connection.send(dataclasses.replace(end, publishes=len(published), server_threads=threads))
    os._exit(0)


def _watched_publishes(fate: Fate) -> list[Path]:
    """Note every file that is given its name; the fate's signal comes where it says."""
    published: list[Path] = []
    replace = os.replace

    def watched(source: Path, target: Path) -> None:
        now = fate.signal is not None and len(published) == fate.publish
        if now and fate.unnamed:
            os.kill(os.getpid(), fate.signal)
        replace(source, target)
        published.append(target)
        if now and not fate.unnamed:
            os.kill(os.getpid(), fate.signal)

    os.replace = watched
    return published
