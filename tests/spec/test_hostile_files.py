"""Malformed and malicious study files: each is refused with one clear message, quickly and with little memory."""

import os
import resource
import socket
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from command import PROGRAM, assert_refused, make_folder

from mnist_hpo.search.check import check_study
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import StudyFile, read_study
from mnist_hpo.spec.study import FloatSpace

MAX_CPU_S = 4.0
"""On a busy machine the slowest of these files takes 1.1 s of CPU time; work that grows with the square of a file's
size would take minutes."""
SPACE = "{learning_rate: {type: float, low: 0.001, high: 0.1}}"
STUDY = f"name: small\nbudget: {{n_trials: 4, max_epochs: 9}}\nspace: {SPACE}\n"


def changed(old: str, new: str) -> str:
    assert STUDY.count(old) == 1
    return STUDY.replace(old, new)


def width(entry: str) -> str:
    return changed(SPACE, f"{{width: {entry}}}")


def alias_bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(lines)


def chain(link: str) -> str:
    """Return anchors that each contain the one before: flat in the file, deeply nested when expanded."""
    return "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {link.format(f'*a{i - 1}')}\n" for i in range(1, 1000))


def read(path: Path) -> StudyFile:
    """Read and check a study file as `mnist-hpo run` does; warnings, which the command would print, fail the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file = read_study(path)
        check_study(file)
    return file


def refusal(path: Path) -> str:
    """Return the error message for a file, which must be printable, short, and raised quickly."""
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        read(path)
    assert time.process_time() - start < MAX_CPU_S
    message = str(caught.value)
    assert message.startswith(str(path))
    lines = message.split("\n")
    assert len(lines) <= 21
    assert all(line.isprintable() and len(line) < len(str(path)) + 600 for line in lines)
    return message.replace(str(path), "FILE")


HOSTILE: dict[str, tuple[str | bytes, str]] = {
    # Size.
    "nested lists": ("a: " + "[" * 5000, "FILE, line 1: nested more than 20 levels deep"),
    "nested mappings": ("{" * 100_000, "FILE, line 1: nested more than 20 levels deep"),
    "nested blocks": ("".join(" " * i + "a:\n" for i in range(300)), "FILE, line 20: nested more than 20 levels deep"),
    "nested lists on many lines": ("- " * 30_000, "FILE, line 1: nested more than 20 levels deep"),
    "more than the largest file": ("#" * 131_073, "FILE: cannot be read as a study file: it has more than 131,072 byt"),
    "many values": ("a: [" + "1," * 60_000 + "]", "FILE, line 1: more than 10,000 keys and values"),
    "many nested lists": ("a: [" + "[[[[[[[]]]]]]]," * 8000 + "]", "FILE, line 1: more than 10,000 keys and values"),
    "many keys": ("".join(f"k{i}: 1\n" for i in range(4900)), "FILE, line 1: k0: unknown key"),
    "many parameters": (
        changed(SPACE, "{" + ", ".join(f"a{i}: {{type: int, low: 1, high: 2}}" for i in range(1200)) + "}"),
        "FILE, line 3: space: must have at most 100 entries",
    ),
    "many wrong values": (STUDY + "enqueue: [" + "{x: []}," * 900 + "]", "FILE: and more; fix these first"),
    "many choices": (
        width(f"{{type: categorical, choices: {list(range(9000))}}}"),
        "FILE, line 3: space.width.choices: must have at most 1,000 entries",
    ),
    "a long text": (STUDY + "description: " + "x" * 20_000, "FILE, line 4: description: text of more than 10,000 ch"),
    "a long value": (STUDY + f"fixed: {{activation: {'x' * 9000}}}", "FILE, line 4: fixed.activation: must be one of"),
    "a long name": (changed("small", "x" * 9000), "is not a valid study name"),
    "a long name of a dataset": (STUDY + "dataset: " + "x" * 9000, "FILE, line 4: dataset: unknown dataset 'xxx"),
    "a long option": (
        STUDY + f"sampler: {{name: tpe, n_startup_trials: {'x' * 9000}}}",
        "line 4: sampler.n_startup_tr",
    ),
    "a long key": (STUDY + "? " + "k" * 9000 + "\n: 1", "FILE, line 4: the key 'kkkkkkk"),
    "a long anchor": ("a: *" + "x" * 9000, "FILE, line 1, column 4: not valid YAML: found undefined alias 'xxx"),
    "a long tag": ("a: !" + "x" * 9000 + " 1", "FILE, line 1: a: the YAML tag '!xxx"),
    "a long unclosed quote": ("a: '" + "x\n " * 40_000, "not valid YAML: while scanning a quoted scalar"),
    "many empty lines": ("name: |+\n" + "\n" * 130_000, "FILE, line 1: name: text of more than 10,000 characters"),
    # Anchors, aliases, merge keys.
    "an alias bomb": (alias_bomb(), "more than 10,000 keys and values"),
    "a chain of aliases": (chain("[{}]"), "nested more than 20 levels deep"),
    "a chain of merge keys": (chain("{{<<: {}}}"), "nested more than 20 levels deep"),
    "a list in itself": ("a: &a [*a]", "FILE, line 1: a.0: the anchor &a contains itself"),
    "a mapping in itself": ("&a {x: *a}", "FILE, line 1: x: the anchor &a contains itself"),
    "a mapping merged into itself": ("a: &a {<<: *a}", "FILE, line 1: a: the anchor &a contains itself"),
    "a merge key with an error": (
        changed("low: 0.001", "<<: {low: wrong}"),
        "FILE, line 3: space.learning_rate.low: must be a number, not 'wrong'",
    ),
    "a merge key with an unknown name": (
        STUDY + "fixed:\n  <<: {wdith: 8}\n",
        "FILE, line 5: fixed.wdith: unknown hyperparameter of the model mlp: 'wdith'; did you mean 'width'?",
    ),
    "a merge key without a mapping": (STUDY + "fixed: {<<: 3}", "FILE, line 4: fixed: << needs an alias of a mapping"),
    "two merge keys": (STUDY + "fixed: {<<: {depth: 1}, <<: {depth: 2}}", "the key '<<' is repeated here"),
    "an alias of nothing": ("a: *b", "FILE, line 1, column 4: not valid YAML: found undefined alias 'b'"),
    # Tags and versions.
    "a Python object": (
        "!!python/object/apply:os.system [ls]",
        "FILE, line 1: the YAML tag 'tag:yaml.org,2002:python/",
    ),
    "a Python name": (STUDY + "seed: !!python/name:os.system", "FILE, line 4: seed: the YAML tag "),
    "bytes": (STUDY + "description: !!binary aGk=", "FILE, line 4: description: the YAML tag "),
    "an ordered map": (STUDY + "fixed: !!omap [depth: 2]", "FILE, line 4: fixed: the YAML tag "),
    "a wrong tag": (STUDY + "seed: !!int many", "FILE, line 4: seed: 'many' is not a number, true or false"),
    "YAML 1.1": ("%YAML 1.1\n---\n" + STUDY, "FILE, line 2: study files are YAML 1.2, not 1.1; remove the line %YAML"),
    "YAML 9": ("%YAML 9.9\n---\n" + STUDY, "not valid YAML"),
    "an undeclared tag": (
        "a: !x!y 1",
        "FILE, line 1, column 4: not valid YAML: while parsing a node found undefined tag",
    ),
    # Characters.
    "NUL": (STUDY + "\0", "FILE, line 4: not valid YAML: contains the control character '\\x00'"),
    "ESC": ("name: \x1b[31m", "FILE, line 1: not valid YAML: contains the control character '\\x1b'"),
    "an escaped ESC": (STUDY + 'description: "\\e[31m"', "line 4: description: contains the control character '\\x1b'"),
    "ESC in a key": (STUDY + '"\\e[31m": 1', "FILE, line 4: contains the control character '\\x1b'; remove it"),
    "a line feed in a key": (STUDY + '"\\nerror: x": 1', "FILE, line 4: \\nerror: x: unknown key"),
    "a lone surrogate": (
        STUDY + 'description: "\\ud800"',
        "line 4: description: contains the control character '\\ud800'",
    ),
    "an impossible character": (STUDY + 'description: "\\UFFFFFFFF"', "FILE, line 4: not valid YAML: "),
    "a right-to-left override": (STUDY + 'dataset: "\\u202e"', "FILE, line 4: dataset: unknown dataset '\\u202e'"),
    "binary": (bytes(range(256)), "FILE: cannot be read as a study file: line 2 is not UTF-8 text"),
    "UTF-16": (STUDY.encode("utf-16"), "FILE: cannot be read as a study file: line 1 is not UTF-8 text"),
    "Latin-1": (
        (STUDY + "description: é").encode("latin-1"),
        "FILE: cannot be read as a study file: line 4 is not UTF-8",
    ),
    "a tab": (changed("space", "\tspace"), "FILE, line 3, column 1: not valid YAML: "),
    # Shapes.
    "nothing": ("", "FILE: a study file is a mapping that starts with 'name: …', not an empty file"),
    "a comment": ("# nothing\n", "not an empty file"),
    "two documents": (STUDY + "---\n" + STUDY, "FILE, line 4, column 1: not valid YAML: expected a single document"),
    "a repeated key": (STUDY + "name: other", "FILE, line 4, column 1: the key 'name' is repeated here"),
    "an empty key": (STUDY + "? \n: 1", "FILE, line 4: a key must be text, not empty"),
    "a number as a key": (STUDY + "1: 2", "FILE, line 4: a key must be text, not 1"),
    "true as a key": (STUDY + "fixed: {true: 2}", "FILE, line 4: fixed: a key must be text, not true"),
    "a list as a key": (STUDY + "? [a]\n: 1", "FILE, line 4: a key must be text, not a list or a mapping"),
    "a mapping as a key": (STUDY + "? {a: 1}\n: 1", "FILE, line 4: a key must be text, not a list or a mapping"),
    "a number as fixed": (STUDY + "fixed: 3", "FILE, line 4: fixed: must be a mapping, not 3"),
    "a null in fixed": (STUDY + "fixed: {depth: }", "FILE, line 4: fixed.depth: must be a number, text, true or fal"),
    "a list as an entry": (changed(SPACE, "{width: [1]}"), "FILE, line 3: space.width: "),
    "a list as a type": (width("{type: [int]}"), "FILE, line 3: space.width: "),
    "an empty space": (changed(SPACE, "{}"), "FILE, line 3: space: must not be empty"),
    "a parameter called float": (
        changed("learning_rate", "float"),
        "FILE, line 3: space.float: unknown hyperparameter",
    ),
    "a list as a sampler": (STUDY + "sampler: [tpe]", "FILE, line 4: sampler: must be a mapping, not ['tpe']"),
    "a mapping as an option": (STUDY + "sampler: {name: tpe, seed: {a: [{b: 1}]}}", "FILE, line 4: sampler.seed: "),
    # Numbers.
    "5,001 digits": (STUDY + "seed: " + "9" * 5001, "FILE, line 4: seed: must be below 2^63 in magnitude, not 999"),
    "10^400": (changed("0.1}", f"1{'0' * 400}}}"), "FILE, line 3: space.learning_rate.high: must be below 2^63"),
    "10^400 with a step": (width(f"{{type: int, low: 1, high: 1{'0' * 400}, step: 1}}"), "must be below 2^63"),
    "2^63": (STUDY + f"fixed: {{depth: {2**63}}}", "FILE, line 4: fixed.depth: must be below 2^63"),
    "hexadecimal": (STUDY + "seed: 0x" + "f" * 90, "FILE, line 4: seed: must be below 2^63 in magnitude, not 0xfff"),
    "1e400": (changed("0.1}", "1e400}"), "FILE, line 3: space.learning_rate.high: must be a finite number, not 1e400"),
    "a huge low": (changed("0.001", "-1.7e+308"), "space.learning_rate.low: must be at least -1e+300, not -1.7e+308"),
    "a huge high with a step": (changed("0.1}", "1.0e+299, step: 0.1}"), "into more than 1,000,000 steps; raise it"),
    "a tiny step": (
        changed("0.1}", "0.1, step: 1e-300}"),
        "step (1e-300) divides low to high into more than 1,000,000",
    ),
    "a step of 0": (changed("0.1}", "0.1, step: 0}"), "space.learning_rate.step: must be above 0, not 0"),
    "a long range": (
        width(f"{{type: int, low: 1, high: {2**62}, step: 1}}"),
        "into more than 1,000,000 steps; raise it",
    ),
    "a large grid": (
        changed(SPACE, "{depth: {type: int, low: 1, high: 16}, width: {type: int, low: 1, high: 8192}}")
        + "sampler: grid",
        "FILE, line 3: space.width: the grid has 131,072 points, but the grid sampler supports at most 100,000",
    ),
    "an infinite bound": (changed("0.1}", ".inf}"), "space.learning_rate.high: must be a finite number, not .inf"),
    "NaN": (STUDY + "fixed: {l2: .nan}", "FILE, line 4: fixed.l2: must be a finite number, not .nan"),
    "NaN in a list": (
        width("{type: categorical, choices: [1, .nan]}"),
        "space.width.choices.1: must be a finite number",
    ),
    "NaN as an option": (
        STUDY + "sampler: {name: tpe, prior_weight: .nan}",
        "line 4: sampler.prior_weight: must be a fi",
    ),
    "many trials": (
        changed("n_trials: 4", f"n_trials: {10**9}"),
        "budget.n_trials: must be at most 1,000,000, not 10000",
    ),
    "many epochs": (
        changed("max_epochs: 9", f"max_epochs: {10**9}"),
        "line 2: budget.max_epochs: must be at most 10,000",
    ),
    "much patience": (
        changed("9}", f"9, patience_epochs: {10**9}}}"),
        "budget.patience_epochs: must be at most 10,000",
    ),
    "many slots": (STUDY + "slots: 1025", "FILE, line 4: slots: must be at most 1,024, not 1025"),
    "a negative seed": (STUDY + "seed: -1", "FILE, line 4: seed: must be at least 0, not -1"),
    # Values of another type.
    "true as a seed": (STUDY + "seed: true", "FILE, line 4: seed: must be a whole number, not True"),
    "true as a bound": (changed("0.001", "true"), "space.learning_rate.low: must be a number, not True"),
    "true as a whole bound": (
        width("{type: int, low: true, high: 2}"),
        "space.width.low: must be a whole number, not Tr",
    ),
    "true as a depth": (STUDY + "fixed: {depth: true}", "FILE, line 4: fixed.depth: must be a whole number, not True"),
    "true for a fixed 1": (
        STUDY + "fixed: {depth: 1}\nenqueue: [{depth: true}]",
        "line 5: enqueue.0.depth: is fixed at 1",
    ),
    "true for a choice of 1": (
        width("{type: categorical, choices: [1, 2]}") + "enqueue: [{width: true}]",
        "FILE, line 4: enqueue.0.width: True is outside the search space of width",
    ),
    "4.0 trials": (changed("n_trials: 4", "n_trials: 4.0"), "line 2: budget.n_trials: must be a whole number, not 4.0"),
    "a quoted number": (changed("n_trials: 4", "n_trials: '4'"), "budget.n_trials: must be a whole number, not '4'"),
    "a quoted bound": (changed("0.001", "'0.001'"), "space.learning_rate.low: must be a number, not '0.001'"),
    "yes": (changed("0.1}", "0.1, log: yes}"), "space.learning_rate.log: must be true or false, not 'yes'"),
    "1 for true": (changed("0.1}", "0.1, log: 1}"), "space.learning_rate.log: must be true or false, not 1"),
    "minutes": (STUDY + "seed: 1:30", "FILE, line 4: seed: must be a whole number, not '1:30'"),
    "a number as a name": (changed("small", "3"), "FILE, line 1: name: must be text, not 3"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    path = tmp_path / "hostile.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in refusal(path)


SENSIBLE: dict[str, str | bytes] = {
    "an ordinary study file": STUDY,
    "a byte order mark": b"\xef\xbb\xbf" + STUDY.encode(),
    "Windows line ends": STUDY.replace("\n", "\r\n"),
    "YAML 1.2": "%YAML 1.2\n---\n" + STUDY,
    "one document with its marks": f"---\n{STUDY}...\n",
    "JSON": '{"name": "small", "budget": {"n_trials": 4, "max_epochs": 9}, "space": '
    '{"learning_rate": {"type": "float", "low": 1e-3, "high": 0.1}}}',
    "an anchor": changed("0.001, high: 0.1", "&low 0.001, high: 0.1") + "enqueue: [{learning_rate: *low}]",
    "an anchor that is used again": "description: &a x\ndataset: &a mnist\nsplit: standard\nmodel: mlp\n" + STUDY,
    "a merge key": changed("low: 0.001, high: 0.1", "<<: {low: 7.0, high: 0.1}, low: 0.001"),
    "a merge key with a list": changed("low: 0.001, high: 0.1", "<<: [{low: 0.001}, {low: 7.0, high: 0.1}]"),
    "other alphabets": STUDY + "description: '學習率 — скорость 👍🏽'",
    "a date": STUDY + "description: 2024-01-01",
    "a description of two lines": STUDY + "description: |\n  one\n  two\t2\n",
    "tags that match their values": changed("name: small", "name: !!str small") + "seed: !!int 0",
}


@pytest.mark.parametrize("content", SENSIBLE.values(), ids=SENSIBLE.keys())
def test_a_sensible_file_is_accepted(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "sensible.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    study = read(path).study
    assert (study.name, study.space["learning_rate"]) == ("small", FloatSpace(type="float", low=0.001, high=0.1))


@pytest.mark.parametrize(("number", "value"), [("017", 17), ("0o17", 15), ("0xff", 255), ("1_000", 1000), ("+7", 7)])
def test_every_notation_of_an_integer_is_read(tmp_path: Path, number: str, value: int) -> None:
    path = tmp_path / "number.yaml"
    path.write_text(STUDY + f"seed: {number}")
    assert read(path).study.seed == value


def test_values_at_the_limits_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text(
        "name: " + "x" * 100 + "\n"
        "budget: {n_trials: 1_000_000, max_epochs: 10_000, patience_epochs: 10_000}\n"
        f"seed: {2**63 - 1}\nslots: 1024\n"
        "space:\n  l2: {type: float, low: 0, high: 1, step: 1e-6}\n"
        f"  width: {{type: categorical, choices: {list(range(1, 1001))}}}\n"
        "enqueue:\n" + "".join(f"  - {{l2: 0.5, width: {i}}}\n" for i in range(1, 1001)) + "#" * 80_000
    )
    study = read(path).study
    assert (len(study.enqueue), study.budget.max_epochs, study.seed) == (1000, 10_000, 2**63 - 1)


def test_the_largest_grid_is_accepted_quickly(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(
        changed(SPACE, "{l2: {type: float, low: 1.0e-5, high: 1, step: 1.0e-5}}").replace(
            "n_trials: 4", "n_trials: 99999"
        )
        + "sampler: grid"
    )
    start = time.process_time()
    read(path)
    assert time.process_time() - start < MAX_CPU_S


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def make_sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "it is a folder"),
        (make_fifo, "it is a pipe or a device; save the study in a file"),
        (make_socket, "it is a pipe or a device; save the study in a file"),
        (lambda path: path.symlink_to("/dev/zero"), "it is a pipe or a device; save the study in a file"),
        (lambda path: path.symlink_to("hostile.yaml"), "Too many levels of symbolic links"),
        (make_sparse_file, "it has more than 131,072 bytes"),
    ],
    ids=["folder", "fifo", "socket", "device", "symlink to itself", "a terabyte"],
)
def test_what_is_not_a_regular_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "hostile.yaml"
    make(path)
    assert refusal(path) == f"FILE: cannot be read as a study file: {message}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "hostile.yaml"
    path.touch(mode=0o000)
    assert refusal(path) == "FILE: cannot be read as a study file: Permission denied"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (alias_bomb(), "hostile.yaml, line 1: more than 10,000 keys and values"),
        (changed("0.1}", f"1{'0' * 400}}}"), "hostile.yaml, line 3: space.learning_rate.high: must be below 2^63"),
        (STUDY + '"\\u202e\\nwarning: x": 1', "hostile.yaml, line 4: \\u202e\\nwarning: x: unknown key"),
    ],
    ids=["an alias bomb", "10^400", "control characters"],
)
def test_the_command_refuses_a_hostile_file_with_one_line(tmp_path: Path, content: str, message: str) -> None:
    folder = make_folder(tmp_path, "hostile")
    (folder.path / "hostile.yaml").write_text(content)
    outcome = folder.call("run", "hostile.yaml")
    assert_refused(outcome, message)
    assert outcome.err.count("\n") == 1


def test_control_characters_in_a_path_are_escaped_in_the_message(tmp_path: Path) -> None:
    outcome = make_folder(tmp_path, "hostile").call("run", "\x1b[31mred.yaml")
    assert_refused(outcome, "'\\x1b[31mred.yaml' is not a study's name or file: it has control characters")
    assert "\x1b" not in outcome.err


def test_a_huge_study_is_refused_with_little_memory(tmp_path: Path) -> None:
    (tmp_path / "hostile.yaml").write_text(changed("max_epochs: 9", f"max_epochs: {10**9}"))
    limit = 4 * 2**30
    done = subprocess.run(
        [str(PROGRAM), "run", "hostile.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    message = "error: hostile.yaml, line 2: budget.max_epochs: must be at most 10,000, not 1000000000\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
