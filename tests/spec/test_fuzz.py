"""Any study file is accepted, or refused with a clear message, within a second of CPU time."""

import copy
import json
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from mnist_hpo.search.check import check_study
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import parse_study, read_study, to_study_file

MAX_CPU_S = 1.0

STUDIES = [re.sub("^ *#.*\n", "", path.read_text(), flags=re.M) for path in sorted((ROOT / "studies").glob("*.yaml"))]
"""The study files without their comments, where changes have no effect."""

HOSTILE_TEXTS = [
    *("", " ", "\n", "\t", "\r\n", "\0", "\x1b[31m", "\ufeff", "\u2028", "\u202e", "é", "👍🏽", "#", " #"),
    *(
        "- ",
        "? ",
        ": ",
        ", ",
        "[",
        "]",
        "{",
        "}",
        "|",
        ">",
        "'",
        '"',
        "&a ",
        "*a",
        "<<: *a",
        "<<: ",
        "%",
        "@",
        "`",
        "=",
    ),
    *(
        "---\n",
        "...\n",
        "%YAML 1.1\n---\n",
        "%TAG ! x\n---\n",
        "!!python/name:os.system ",
        "!!int ",
        "!x ",
        "!!set ",
        "!<",
    ),
    *("true", "yes", "null", "~", ".nan", ".inf", "-.inf", "2024-01-01", "1:30", "017", "0x_", "0b2", "1e5", "1e400"),
    *(
        "0",
        "-1",
        "1.0",
        "-0.0",
        "1e-320",
        "1_000",
        str(2**63),
        "-" + "9" * 19,
        "9" * 5001,
        "1" + "0" * 400,
        "0." + "1" * 300,
    ),
    *(
        '"\\ud800"',
        '"\\e"',
        '"\\UFFFFFFFF"',
        '"\\x',
        "[" * 3000,
        "{" * 3000,
        "- " * 3000,
        "[1, " * 30,
        "x" * 20_000,
        "\n" * 5000,
    ),
    *(
        "a: &a [*a]",
        "&a {<<: *a}",
        "<<: {low: wrong}",
        "<<: {wdith: 1}",
        "[" + "1," * 15_000 + "]",
        "{a: 1, a: 2}",
        "{[a]: 1}",
        "? {a: 1}\n: 2\n",
    ),
    *(
        "n_trials: 1000000000",
        "step: 1e-300",
        "step: 7",
        "log: true",
        "low: 0",
        "type: int",
        "grid",
        "random",
        "median",
    ),
    *("hyperband", "successive_halving", "choices: [1, 2]", "fixed: {}", "enqueue: [{}]", "space: {}", "budget: "),
]


@st.composite
def changed_studies(draw: st.DrawFn) -> bytes:
    """Draw a real study file with some of its words deleted, repeated, moved or replaced."""
    words = re.findall(r"\w+|[^\S\n]+|\n|[^\w\s]", draw(st.sampled_from(STUDIES)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(words)))
        end = min(len(words), start + draw(st.sampled_from([0, 1, 1, 1, 3, 10])))
        other = draw(st.integers(0, len(words)))
        new = draw(
            st.sampled_from([[], words[start:end] * 2, words[other : other + 3], words[other : other + 30]])
            | st.sampled_from(HOSTILE_TEXTS).map(lambda text: [text])
            | st.sampled_from(HOSTILE_TEXTS).map(lambda text: [text])
            | st.text(max_size=5).map(lambda text: [text])
        )
        words[start:end] = new
    return "".join(words).encode(errors="surrogatepass")


hostile_values = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0, -1, 1, 2, 1.0, 0.5, 1e-300, 1e300, 5e-324, 2**53, 2**63 - 1, 2**63, 10**400, 10**9])
    | st.sampled_from(
        ["", "x" * 20_000, "\x1b[31m", "\ud800", "1e-3", "yes", ".nan", "float", "int", "categorical", "auto"]
    )
    | st.sampled_from([[], {}, [[]], [1], {"a": 1}, list(range(1, 2000)), {f"k{i}": i for i in range(500)}])
)

values = {
    "learning_rate": st.floats(1e-6, 10),
    "dropout": st.floats(0, 0.9),
    "l2": st.floats(0, 1),
    "width": st.integers(1, 8192),
    "depth": st.integers(1, 16),
    "batch_size": st.integers(1, 42_000),
    "optimizer": st.sampled_from(["adam", "sgd"]),
}


@st.composite
def _entries(draw: st.DrawFn, name: str) -> dict[str, object]:
    if name == "optimizer" or draw(st.booleans()):
        return {"type": "categorical", "choices": draw(st.lists(values[name], min_size=1, max_size=4, unique=True))}
    low, high = sorted([draw(values[name]), draw(values[name])])
    kind = "int" if isinstance(low, int) else "float"
    step = (high - low) / draw(st.integers(1, 5)) if kind == "float" else 1
    optional = draw(st.sampled_from([{}, {}, {"step": step or 1}, {"log": low > 0}]))
    return {"type": kind, "low": low, "high": high, **optional}


def _method(names: list[str], options: list[str]) -> st.SearchStrategy[object]:
    name = st.sampled_from(names)
    option_values = st.integers(0, 40) | st.booleans() | st.floats(0, 2) | hostile_values
    with_options = st.dictionaries(st.sampled_from(options), option_values, max_size=2)
    return name | st.tuples(name, with_options).map(lambda pair: {"name": pair[0], **pair[1]})


samplers = _method(
    ["tpe", "random", "grid", "qmc", "gp", "cmaes", "genetic", "nsgaii", "nsgaiii"],
    [
        *("n_startup_trials", "n_ei_candidates", "multivariate", "group", "prior_weight", "consider_endpoints", "seed"),
        *("qmc_type", "scramble", "n_candidates", "max_points", "population_size", "sigma0", "mutation_prob"),
    ],
)
pruners = _method(
    ["none", "median", "hyperband", "successive_halving", "percentile", "threshold", "wilcoxon", "patient"],
    [
        *("percentile", "upper", "lower", "p_threshold", "n_startup_steps", "patience", "min_delta", "wraps"),
        *("n_startup_trials", "n_warmup_steps", "interval_steps", "n_min_trials", "min_resource", "max_resource"),
        *("reduction_factor", "bootstrap_count", "min_early_stopping_rate"),
    ],
)


@st.composite
def structures(draw: st.DrawFn) -> object:
    """Draw a valid study with up to two of its values replaced by hostile ones."""
    searched = draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=4, unique=True))
    fixed = draw(st.lists(st.sampled_from(sorted(values)), max_size=2, unique=True))
    study: dict[str, object] = {
        "name": "fuzz",
        "budget": {"n_trials": draw(st.integers(1, 9)), "max_epochs": draw(st.integers(1, 30)), "patience_epochs": 3},
        "seed": draw(st.integers(0, 2**63 - 1)),
        "split": draw(st.sampled_from(["standard", "paper"])),
        "slots": draw(st.integers(1, 1024)),
        "sampler": draw(samplers),
        "pruner": draw(pruners),
        "space": {name: draw(_entries(name)) for name in searched},
        "fixed": {name: draw(values[name]) for name in fixed if name not in searched},
        "enqueue": [
            {name: draw(values[name]) for name in searched} for _ in range(draw(st.sampled_from([0, 0, 0, 1])))
        ],
    }
    # Strategies return the same lists and mappings again: what is changed below must be copies.
    study = copy.deepcopy(study)
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        container, key = draw(st.sampled_from(list(_places(study))))
        container[key] = copy.deepcopy(draw(hostile_values))
    return study


def _places(container: Any) -> Iterator[tuple[Any, str | int]]:
    """Yield each container and key of the values in nested lists and mappings."""
    for key, value in container.items() if isinstance(container, dict) else enumerate(container):
        yield container, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _as_yaml(structure: object) -> bytes:
    text = json.dumps(structure, indent=1)
    return re.sub(r"\bNaN\b", ".nan", re.sub(r"\bInfinity\b", ".inf", text)).encode()


STRATEGIES: dict[str, st.SearchStrategy[bytes]] = {
    "changed studies": changed_studies(),
    "structures": structures().map(_as_yaml),
    "bytes": st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")),
}


@dataclass
class Tally:
    """Counts of accepted and refused files, and the slowest one."""

    n_accepted: int = 0
    n_refused: int = 0
    worst_cpu_s: float = 0.0
    worst: bytes = b""

    def check(self, path: Path, data: bytes) -> None:
        """Read and check one file as `mnist-hpo run` does; fail unless it is accepted or clearly refused."""
        start = time.process_time()
        self._check(path, data)
        cpu_s = time.process_time() - start
        if cpu_s > self.worst_cpu_s:
            self.worst_cpu_s, self.worst = cpu_s, data

    def _check(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                file = read_study(path)
                check_study(file)
        except UserError as error:
            self.n_refused += 1
            assert_clear(str(error), str(path))
        else:
            self.n_accepted += 1
            # The storage records the file's text, which is parsed again later.
            assert parse_study(file.text, path).study.sha256() == file.study.sha256()
            # A caller of the Python API may pass the study itself.
            assert to_study_file(file.study).study == file.study

    def assert_worst_is_cheap(self, path: Path) -> None:
        """Check the slowest file again: Hypothesis traces some calls, which makes them many times slower."""
        times_s = []
        for _ in range(3):
            start = time.process_time()
            self._check(path, self.worst)
            times_s.append(time.process_time() - start)
        assert min(times_s) < MAX_CPU_S, self.worst[:200]


def assert_clear(message: str, path: str) -> None:
    assert message.startswith(path)
    lines = message.split("\n")
    assert len(lines) <= 21
    assert all(line.isprintable() and len(line) < len(path) + 700 for line in lines), message


def fuzz(tmp_path: Path, strategy: st.SearchStrategy[bytes], n_files: int) -> Tally:
    tally = Tally()

    @settings(max_examples=n_files, database=None)
    @given(strategy)
    def check(data: bytes) -> None:
        tally.check(tmp_path / "fuzz.yaml", data)

    check()
    tally.assert_worst_is_cheap(tmp_path / "fuzz.yaml")
    print(f"accepted {tally.n_accepted}, refused {tally.n_refused}, slowest {tally.worst_cpu_s:.3f} s of CPU time")
    return tally


@pytest.mark.parametrize("name", STRATEGIES)
def test_any_file_is_accepted_or_clearly_refused(tmp_path: Path, name: str) -> None:
    tally = fuzz(tmp_path, STRATEGIES[name], 100)
    assert tally.n_refused > 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("name", "n_files"), [("changed studies", 5000), ("structures", 4500), ("bytes", 500)], ids=[*STRATEGIES]
)
def test_ten_thousand_files_are_accepted_or_clearly_refused(tmp_path: Path, name: str, n_files: int) -> None:
    tally = fuzz(tmp_path, STRATEGIES[name], n_files)
    assert tally.n_accepted + tally.n_refused >= n_files
    if name != "bytes":
        assert min(tally.n_accepted, tally.n_refused) > n_files // 200
