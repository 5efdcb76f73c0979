"""A valid study file is read unchanged; an invalid one is refused with the place, the problem and the fix."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import StudyFile, read_study
from mnist_hpo.spec.study import CategoricalSpace, FloatSpace

WriteStudy = Callable[..., Path]
StudyOf = Callable[..., StudyFile]


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_study(path)
    return str(caught.value)


def line_of(path: Path, text: str) -> int:
    return 1 + next(i for i, line in enumerate(path.read_text().splitlines()) if text in line)


def test_a_valid_file_is_read_unchanged(study_of: StudyOf) -> None:
    study = study_of().study
    assert (study.name, study.seed, study.slots) == ("small", 1, 2)
    assert (study.dataset, study.split, study.model, study.objective) == ("mnist", "standard", "mlp", "valid_loss")
    assert (study.budget.n_trials, study.budget.max_epochs, study.budget.patience_epochs) == (4, 9, None)
    assert study.space["learning_rate"] == FloatSpace(type="float", low=1e-4, high=0.1, log=True)
    assert study.space["width"] == CategoricalSpace(type="categorical", choices=(32, 64))
    assert study.fixed == {"depth": 2}
    assert study.enqueue == ({"learning_rate": 0.001, "width": 32, "dropout": 0.25},)


def test_missing_fields_have_defaults(tmp_path: Path) -> None:
    path = tmp_path / "least.yaml"
    path.write_text("name: least\nbudget: {n_trials: 1, max_epochs: 1}\nspace: {depth: {type: int, low: 1, high: 2}}\n")
    study = read_study(path).study
    assert (study.seed, study.dataset, study.split, study.model) == (0, "mnist", "standard", "mlp")
    assert (study.sampler.name, study.pruner.name, study.fixed, study.enqueue) == ("tpe", "none", {}, ())


def test_options_of_a_sampler_are_read(study_of: StudyOf) -> None:
    study = study_of("sampler: random", "sampler: {name: tpe, n_startup_trials: 4}").study
    assert (study.sampler.name, study.sampler.options) == ("tpe", {"n_startup_trials": 4})


@pytest.mark.parametrize("number", ["1e-3", "1.0e-3", "0.001", ".001"])
def test_every_notation_of_a_number_is_read_as_a_number(study_of: StudyOf, number: str) -> None:
    study = study_of("high: 0.1", "high: 0.5", "low: 0.0001", f"low: {number}").study
    entry = study.space["learning_rate"]
    assert isinstance(entry, FloatSpace)
    assert entry.low == 0.001


def test_choices_and_fixed_values_keep_their_types(study_of: StudyOf) -> None:
    study = study_of("depth: 2", "depth: 2\n  l2: 2.0\n  activation: relu").study
    assert {name: type(value) for name, value in study.fixed.items()} == {"depth": int, "l2": float, "activation": str}


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("studies").mkdir()
    Path("studies/quickstart.yaml").touch()
    assert refusal(Path("studies/quikstart.yaml")) == (
        "studies/quikstart.yaml: no such study file; did you mean 'quickstart'?; there is studies/quickstart.yaml"
    )
    Path("studies/mlp.yaml").touch()
    assert refusal(Path("studies/paper.yaml")) == (
        "studies/paper.yaml: no such study file; there are studies/mlp.yaml, studies/quickstart.yaml"
    )


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read as a study file: ")


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.yaml"
    path.write_bytes(bytes(range(256)))
    assert refusal(path).startswith(f"{path}: cannot be read as a study file: ")


@pytest.mark.parametrize("text", ["", "- name: small\n", "small\n"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(text)
    assert refusal(path).startswith(f"{path}: a study file is a mapping that starts with 'name: …', not ")


def test_invalid_yaml_is_reported_with_line_and_column(write_study: WriteStudy) -> None:
    path = write_study("choices: [32, 64]}", "choices: [32, 64}")
    line = line_of(path, "choices")
    column = path.read_text().splitlines()[line - 1].index("}") + 1
    assert refusal(path).startswith(f"{path}, line {line}, column {column}: not valid YAML: ")


def test_a_tab_as_indentation_is_refused(write_study: WriteStudy) -> None:
    path = write_study("  max_epochs: 9", "\tmax_epochs: 9")
    assert refusal(path).startswith(f"{path}, line {line_of(path, 'max_epochs')}, column 1: not valid YAML: ")


def test_a_duplicate_key_is_refused(write_study: WriteStudy) -> None:
    path = write_study("slots: 2", "slots: 2\nseed: 2")
    line = line_of(path, "seed: 2")
    assert refusal(path) == f"{path}, line {line}, column 1: the key 'seed' is repeated here; keep one"


@pytest.mark.parametrize(
    ("old", "new", "where", "meant"),
    [
        ("slots: 2", "slotz: 2", "slotz", "slots"),
        ("max_epochs: 9", "max_epochs: 9\n  patience_epoch: 3", "budget.patience_epoch", "patience_epochs"),
        ("step: 0.25", "steps: 0.25", "space.dropout.steps", "step"),
        ("choices: [32, 64]", "choices: [32], choises: [64]", "space.width.choises", "choices"),
    ],
)
def test_an_unknown_key_is_reported_with_the_nearest_known_one(
    write_study: WriteStudy, old: str, new: str, where: str, meant: str
) -> None:
    path = write_study(old, new)
    line = line_of(path, where.split(".")[-1])
    assert refusal(path).startswith(f"{path}, line {line}: {where}: unknown key; did you mean {meant!r}?; known are ")


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("budget:", "budgett:", "budgett"),
        ("max_epochs: 9", "max_epoch: 9", "budget.max_epoch"),
        ("choices: [32, 64]", "choises: [32, 64]", "space.width.choises"),
    ],
)
def test_a_misspelt_key_is_not_reported_as_missing_too(write_study: WriteStudy, old: str, new: str, where: str) -> None:
    (message,) = refusal(write_study(old, new)).splitlines()
    assert f": {where}: unknown key; did you mean {old.split(':')[0]!r}?" in message


def test_an_unknown_key_without_a_similar_one_is_reported_with_all_known_ones(write_study: WriteStudy) -> None:
    path = write_study("n_trials: 4", "n_trials: 4\n  banana: 3")
    assert refusal(path).endswith("unknown key; known are n_trials, max_epochs, patience_epochs, keep")


def test_low_above_high_is_refused(write_study: WriteStudy) -> None:
    path = write_study("high: 0.1,", "high: 0.00001,")
    line = line_of(path, "learning_rate: {type")
    assert refusal(path) == (
        f"{path}, line {line}: space.learning_rate: low (0.0001) is greater than high (1e-05); swap them"
    )


@pytest.mark.parametrize("low", ["0", "-1.0"])
def test_a_log_scale_that_starts_at_or_below_zero_is_refused(write_study: WriteStudy, low: str) -> None:
    path = write_study("low: 0.0001", f"low: {low}")
    line = line_of(path, "learning_rate: {type")
    assert refusal(path) == (
        f"{path}, line {line}: space.learning_rate: log: true needs low > 0, and low is {float(low):g}; "
        "raise low or drop log"
    )


def test_the_same_rules_for_bounds_apply_to_integers(write_study: WriteStudy) -> None:
    path = write_study("type: categorical, choices: [32, 64]", "type: int, low: 64, high: 32")
    assert "space.width: low (64) is greater than high (32); swap them" in refusal(path)
    path = write_study("type: categorical, choices: [32, 64]", "type: int, low: 0, high: 32, log: true")
    assert "space.width: log: true needs low > 0, and low is 0; raise low or drop log" in refusal(path)


def test_log_and_step_exclude_each_other(write_study: WriteStudy) -> None:
    path = write_study(
        "step: 0.25", "step: 0.25\n    log: true", "low: 0.0\n", "low: 0.25\n", "high: 0.5", "high: 0.75"
    )
    assert f"line {line_of(path, 'dropout:')}: space.dropout: log and step exclude each other" in refusal(path)


def test_a_step_that_does_not_divide_the_range_is_refused(write_study: WriteStudy) -> None:
    path = write_study("step: 0.25", "step: 0.3")
    assert "space.dropout: high (0.5) is not low (0) plus a whole number of steps of 0.3" in refusal(path)


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan"])
@pytest.mark.parametrize("old", ["high: 0.5", "depth: 2"])
def test_numbers_must_be_finite(write_study: WriteStudy, old: str, number: str) -> None:
    key = old.split(":")[0]
    path = write_study(old, f"{key}: {number}")
    message = refusal(path)
    assert f"{path}, line {line_of(path, f'{key}: {number}')}: " in message
    assert "finite number" in message


def test_an_unknown_type_in_the_space_is_refused(write_study: WriteStudy) -> None:
    path = write_study("type: categorical", "type: choice")
    line = line_of(path, "width:")
    assert refusal(path) == (
        f"{path}, line {line}: space.width: type must be one of float, int, categorical, not 'choice'"
    )


def test_a_duplicate_choice_is_refused(write_study: WriteStudy) -> None:
    path = write_study("[32, 64]", "[32, 64, 32]")
    assert "space.width.choices: choices must differ: 32 is listed twice" in refusal(path)


def test_a_hyperparameter_both_searched_and_fixed_is_refused(write_study: WriteStudy) -> None:
    path = write_study("depth: 2", "width: 64")
    assert "width is both in space and in fixed; leave it in one of them" in refusal(path)


def test_a_missing_required_field_is_reported(write_study: WriteStudy) -> None:
    path = write_study("  n_trials: 4\n", "")
    assert refusal(path) == f"{path}, line {line_of(path, 'budget:')}: budget.n_trials: is missing"


def test_a_value_of_the_wrong_type_is_reported_with_the_value(write_study: WriteStudy) -> None:
    path = write_study("n_trials: 4", "n_trials: many")
    message = refusal(path)
    assert message.startswith(f"{path}, line {line_of(path, 'many')}: budget.n_trials: ")
    assert message.endswith("not 'many'")


def test_a_list_instead_of_a_single_value_is_refused(write_study: WriteStudy) -> None:
    path = write_study("depth: 2", "depth: [2, 3]")
    assert refusal(path) == (
        f"{path}, line {line_of(path, 'depth: [')}: fixed.depth: must be a number, text, true or false, not [2, 3]"
    )


def test_a_name_that_is_not_a_file_name_is_refused(write_study: WriteStudy) -> None:
    path = write_study("name: small", "name: ../small")
    assert f"{path}, line 1: name: '../small' is not a valid study name" in refusal(path)


def test_all_mistakes_are_reported_at_once(write_study: WriteStudy) -> None:
    path = write_study("slots: 2", "slotz: 2", "n_trials: 4", "n_trials: 0")
    assert [line.split(": ")[1] for line in refusal(path).splitlines()] == ["budget.n_trials", "slotz"]


def test_the_identity_does_not_include_the_description_and_the_number_of_trials(study_of: StudyOf) -> None:
    before = study_of().study
    for old, new in [
        ("description: a search that the tests change line by line", "description: other words"),
        ("description: a search that the tests change line by line\n", ""),
        ("n_trials: 4", "n_trials: 400"),
    ]:
        after = study_of(old, new).study
        assert after != before
        assert (after.identity(), after.sha256()) == (before.identity(), before.sha256())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small", "name: smaller"),
        ("seed: 1", "seed: 2"),
        ("split: standard", "split: paper"),
        ("max_epochs: 9", "max_epochs: 10"),
        ("max_epochs: 9", "max_epochs: 9\n  patience_epochs: 3"),
        ("slots: 2", "slots: 3"),
        ("sampler: random", "sampler: tpe"),
        ("sampler: random", "sampler: {name: random, x: 1}"),
        ("pruner: none", "pruner: median"),
        ("high: 0.1", "high: 0.2"),
        (", log: true", ""),
        ("[32, 64]", "[64, 32]"),
        ("depth: 2", "depth: 3"),
        ("width: 32", "width: 64"),
    ],
)
def test_the_identity_includes_everything_else(study_of: StudyOf, old: str, new: str) -> None:
    assert study_of(old, new).study.sha256() != study_of().study.sha256()


def test_the_identity_does_not_depend_on_the_formatting_of_the_file(study_of: StudyOf) -> None:
    before = study_of("fixed:\n  depth: 2", "fixed: {depth: 2}").study
    after = study_of(
        "low: 0.0001", "low: 1e-4", "high: 0.5", "high: .50  # half", "sampler: random", "sampler: {name: random}"
    ).study
    assert after.sha256() == before.sha256()
