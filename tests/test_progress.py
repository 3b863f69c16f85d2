from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labelwise.progress import Lines, Live, Silent, Timeline, clock, make_progress


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    fake = Clock()
    monkeypatch.setattr("labelwise.progress.time.monotonic", fake)
    return fake


def timeline_of(*estimates):
    timeline = Timeline()
    timeline.estimates = list(estimates)
    return timeline


def run_step(timeline, time, seconds):
    timeline.begin()
    time.now += seconds
    timeline.end()
    timeline.fraction = 1.0


def test_before_the_first_step_all_estimates_are_left(time):
    assert timeline_of(10, 20, 30).left == 60


def test_without_estimates_nothing_is_left(time):
    timeline = Timeline()
    timeline.begin()
    assert (timeline.left, timeline.done) == (0, 0)


def test_running_time_is_taken_off_the_step(time):
    timeline = timeline_of(10, 20)
    timeline.begin()
    time.now += 4
    assert timeline.left == pytest.approx(6 + 20)


def test_a_step_that_takes_too_long_leaves_no_negative_time(time):
    timeline = timeline_of(10, 20)
    timeline.begin()
    time.now += 50
    assert timeline.left == pytest.approx(20)


def test_the_fraction_that_is_done_tells_more_than_the_estimate(time):
    timeline = timeline_of(10, 20)
    timeline.begin()
    time.now += 6
    timeline.fraction = 0.25
    assert timeline.left == pytest.approx(18 + 20)


def test_steps_that_took_twice_as_long_double_what_is_left(time):
    timeline = timeline_of(99, 50)
    run_step(timeline, time, 199)
    assert timeline.left == pytest.approx(100)


def test_steps_as_estimated_leave_the_estimates(time):
    timeline = timeline_of(30, 20, 10)
    run_step(timeline, time, 30)
    assert timeline.left == pytest.approx(30)


def test_a_fast_first_step_does_not_promise_too_much(time):
    timeline = timeline_of(0.01, 10)
    run_step(timeline, time, 0.0)
    assert timeline.left == pytest.approx(10, rel=0.02)


def test_between_two_steps_time_does_not_count(time):
    timeline = timeline_of(10, 20)
    run_step(timeline, time, 10)
    time.now += 100
    assert timeline.left == pytest.approx(20)


def test_at_the_end_nothing_is_left(time):
    timeline = timeline_of(10)
    run_step(timeline, time, 3)
    assert (timeline.left, timeline.done) == (0, 1)


def test_steps_nobody_planned_leave_nothing(time):
    timeline = timeline_of(10)
    for _ in range(3):
        run_step(timeline, time, 3)
    assert (timeline.left, timeline.done) == (0, 1)


def test_what_is_done_counts_estimates(time):
    timeline = timeline_of(10, 30)
    timeline.begin()
    timeline.fraction = 0.5
    assert timeline.done == pytest.approx(5 / 40)
    timeline.begin()
    assert timeline.done == pytest.approx(10 / 40)


def test_a_line_is_written_for_every_finished_step(time, capsys):
    lines = Lines()
    lines.plan([10, 65])
    lines.begin("first")
    lines.advance(0.5, "halfway")
    time.now += 10
    lines.end("well done")
    assert capsys.readouterr() == ("", "first: 10 s, well done; about 1:05 min left\n")


def test_a_line_without_a_plan_says_nothing_of_time_left(time, capsys):
    lines = Lines()
    lines.begin("looking")
    time.now += 2
    lines.end()
    assert capsys.readouterr().err == "looking: 2 s\n"


def test_a_new_plan_begins_at_its_first_step(time, capsys):
    lines = Lines()
    lines.begin("looking")
    lines.end()
    lines.plan([10, 20])
    lines.begin("first")
    time.now += 10
    lines.end()
    assert capsys.readouterr().err.endswith("first: 10 s; about 20 s left\n")


def test_sentences_go_to_stderr(capsys):
    Lines().say("[bold]words[/bold]")
    assert capsys.readouterr() == ("", "[bold]words[/bold]\n")


def play(progress):
    progress.begin("looking [red]")
    progress.advance(0.3)
    progress.end()
    progress.plan([1.0, 2.0])
    progress.begin("first")
    progress.advance(0.5, "note [x]")
    progress.say("a sentence [bold]")
    progress.end("good")
    progress.close()


def test_silence_writes_nothing(capsys):
    play(Silent())
    assert capsys.readouterr() == ("", "")


def test_a_moving_line_writes_sentences_as_they_are_to_stderr(capsys):
    play(Live())
    output = capsys.readouterr()
    assert output.out == ""
    assert "a sentence [bold]" in output.err


@pytest.mark.parametrize(
    ("quiet", "terminal", "kind"),
    [(True, True, Silent), (False, True, Live), (False, False, Lines)],
)
def test_the_display_fits_where_it_is_shown(monkeypatch, quiet, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    progress = make_progress(quiet)
    progress.close()
    assert isinstance(progress, kind)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1:00 min"),
        (185, "3:05 min"),
        (3599.4, "59:59 min"),
        (3599.6, "1:00:00 h"),
        (3723, "1:02:03 h"),
        (360_000, "100:00:00 h"),
    ],
)
def test_seconds_are_shown_as_on_a_clock(seconds, text):
    assert clock(seconds) == text


@given(st.integers(0, 10**6))
def test_a_clock_can_be_read_back(seconds):
    number, _ = clock(seconds).split(" ")
    read = 0
    for part in number.split(":"):
        read = 60 * read + int(part)
    assert read == seconds
