"""The traps: a benchmark that measures nothing and says so to nobody, or something else than it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from warmup_pipeline_tests.benchmarks import pools
from warmup_pipeline_tests.benchmarks.__main__ import BENCHMARKS, main
from warmup_pipeline_tests.benchmarks.options import WRONG_USAGE, parser_of
from warmup_pipeline_tests.benchmarks.replies import ring


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_option_of_a_benchmark_says_what_it_means_and_what_it_is_by_default(name: str) -> None:
    run = import_module(BENCHMARKS[name]).run
    parser = parser_of(name, run)
    options = [action for action in parser._actions if action.dest not in ("help", "json")]
    assert options
    for option in options:
        assert option.help
        assert len(option.help) > len(f"(default {option.default})") + 5
        assert parser.parse_args([]).__dict__[option.dest] == option.default


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cycle", "--chips", "0"], "at least 3"),
        (["cycle", "--rounds", "0"], "at least 1"),
        (["cycle", "--latency-ms", "-1"], "at least 0"),
        (["store", "--database", "SQLite"], "sqlite, postgresql"),
        (["derive", "--messages", "many"], "whole number"),
        (["simulate", "--faults", "nope"], "flaky"),
        (["pools", "--rounds", "6"], "at most 5"),
        (["webhooks", "--per-s", "0"], "at least 1"),
        (["webhooks", "--database-url", "foo://x"], "not supported"),
        (["scale", "--few", "1"], "at least 3"),
        (["cycle", "--chip", "5"], "unrecognized"),
        (["nothing"], "dagster-overhead"),
        ([], "say which"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr()
    assert code == WRONG_USAGE
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert said in told.err


def test_json_is_one_document_and_nothing_else() -> None:
    words = ["cycle", "--chips", "10", "--rounds", "2", "--latency-ms", "0", "--json"]
    ran = subprocess.run(
        [sys.executable, "-m", "warmup_pipeline_tests.benchmarks", *words],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(ran.stdout)
    assert document["sent"] == 10
    assert document["look_ups"] == 0
    assert len(document["cycle_s"]) == len(document["floor_s"]) == len(document["sockets_floor_s"]) == 2


@given(chips=st.integers(3, 60), number=st.integers(0, 200))
def test_in_every_round_each_chip_has_one_reply_due_to_a_chip_that_has_none_due_to_it(
    chips: int, number: int
) -> None:
    ids = [f"chip-{index}" for index in range(chips)]
    pairs = ring(ids, number)
    assert Counter(responder for _, responder in pairs) == Counter(ids)
    assert all(opener != responder for opener, responder in pairs)
    assert len({frozenset(pair) for pair in pairs}) == chips


def test_every_measured_run_of_pools_falls_into_the_hours_in_which_chips_send() -> None:
    last = pools.BEGINS + 2 * pools.MOST_ROUNDS * pools.BETWEEN
    # 08:00 to 20:00 in America/Sao_Paulo.
    assert (pools.BEGINS.hour, pools.BEGINS.minute) == (11, 0)
    assert last < pools.BEGINS.replace(hour=23, minute=0)
