"""The report's sections in their order: each shows something, or says plainly why it cannot."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.report.blocks import Block, Missing, Part, Parts, Points, Section, Source, Table, Tiles
from mnist_hpo.report.champion_test import ChampionTest, mean_and_std, seeds_in_words
from mnist_hpo.report.charts import champion, parameters, time
from mnist_hpo.report.charts.trials import drawn_trials, history, learning_curves
from mnist_hpo.report.importance import MIN_TRIALS, Importance
from mnist_hpo.report.scale import is_ordered, is_single, range_text
from mnist_hpo.report.timeline import sessions, slot_spans, time_spent, worker_spans
from mnist_hpo.report.view import StudyView, best_accuracy, brief, percent, signed
from mnist_hpo.report.why import why_it_won
from mnist_hpo.storage.records import count_states, history_sha256, named_counts

_N_TOP = 10


def make_sections(view: StudyView, importance: Importance, tests: Sequence[ChampionTest]) -> list[Section]:
    """All sections of a study's report."""
    return [
        _summary(view, importance, tests),
        _history(view),
        _importances(view, importance),
        _correlations(view, importance),
        *_most_important(view, importance),
        _parallel(view, importance),
        _curves(view),
        _top(view),
        _timeline(view),
        _time(view),
        _test(view, tests),
        _provenance(view),
    ]


def _summary(view: StudyView, importance: Importance, tests: Sequence[ChampionTest]) -> Section:
    counts = count_states(view.trials)
    n_ended = len(view.trials) - counts["running"]
    budget = view.study.budget.n_trials
    is_finished = n_ended >= budget
    states = ", ".join(named_counts(counts, is_running=view.is_running)) or "none begun"
    spent = time_spent(view.trials)
    worked_s = spent.train_s + spent.evaluate_s + spent.compile_s + spent.host_s
    running = sum(session.seconds for session in sessions(view.trials))
    n_epochs = sum(len(trial.epochs) for trial in view.trials)
    tiles = [
        ("state", "complete" if is_finished else "unfinished", f"{n_ended:,} of {budget:,} trials ended"),
        ("trials", f"{len(view.trials):,}", states),
        ("epochs", f"{n_epochs:,}", f"{duration(worked_s)} of worker time, {duration(running)} by the clock"),
    ]
    best = view.best
    if best is None:
        reason = f"No trial is complete yet ({states}), so there is no best one."
        return Section("Why it won", "", [Tiles(tiles), Missing(reason, _run(view))])
    accuracy = best_accuracy(best)
    tiles.insert(0, ("best valid_loss", f"{best.value:.5f}", f"trial #{best.number}, epoch {best.best_epoch}"))
    if accuracy is not None:
        tiles.insert(1, ("its validation accuracy", percent(accuracy), "on examples held back from training"))
    blocks: list[Block] = [Tiles(tiles), Points(why_it_won(view, importance, tests)), _best_table(view, importance)]
    return Section("Why it won", "", blocks)


def _best_table(view: StudyView, importance: Importance) -> Table:
    """What the best trial was told: what was searched first, with its figures; then what was not."""
    assert view.best is not None
    top = view.complete[: importance.n_top]
    best_few = "best 1 trial" if len(top) == 1 else f"best {len(top)} trials"
    header = ["parameter", "best trial", "searched", best_few, "fANOVA", "PED-ANOVA", "Spearman ρ"]
    ranked = importance.ranking()
    names = ranked + [name for name in view.study.space if name not in ranked]
    rows: list[list[str]] = []
    for name in names:
        entry = view.study.space[name]
        correlation = importance.correlations.get(name)
        values = [trial.parameters[name] for trial in top]
        if is_ordered(entry):
            low, high = min(values, key=float), max(values, key=float)
            spread = brief(low) if low == high else f"{brief(low)} to {brief(high)}"
        else:
            spread = ", ".join(dict.fromkeys(map(brief, values)))
        rows.append(
            [
                name,
                brief(view.best.parameters[name]),
                range_text(entry),
                spread,
                _share(importance.fanova, name),
                _share(importance.ped_anova, name),
                signed(correlation.rho) if correlation else "–",
            ]
        )
    rest = [name for name in view.all_parameters(view.best) if name not in view.study.space]
    values_of_rest = view.all_parameters(view.best)
    rows += [[name, brief(values_of_rest[name]), _how_set(view, name), "", "", "", ""] for name in rest]
    return Table(header, rows)


def _how_set(view: StudyView, name: str) -> str:
    return "fixed" if name in view.study.fixed else "by default"


def _share(shares: dict[str, float], name: str) -> str:
    return f"{100 * shares[name]:.0f} %" if name in shares else "–"


def _history(view: StudyView) -> Section:
    title = "Optimisation history"
    if not any(trial.epochs for trial in view.trials):
        return Section(title, "", [_nothing_measured(view)])
    lead = (
        "Each point is a trial at the lowest valid_loss that it reached; the line is the best complete trial so far. "
        "A pruned trial stands where it was given up: it might have come lower. Point at a trial to see its parameters."
    )
    return Section(title, lead, [history(view)])


def _importances(view: StudyView, importance: Importance) -> Section:
    title = "Parameter importances"
    why_not = _too_few(view)
    if why_not is not None:
        return Section(title, "", [why_not])
    if not importance.ranking():
        return Section(title, "", [Missing("Neither method sees that any parameter made a difference.")])
    lead = (
        "fANOVA: the share of each parameter alone in the variance of valid_loss, by a random forest over the "
        f"{len(view.complete):,} complete trials. PED-ANOVA, the fast one: how much the parameters of the best "
        f"{importance.n_top:,} of them stand out from all the others', so it tells what decides at "
        "the top. Trials that a sampler chose are no random sample, and interactions are not shown: read "
        "large differences only."
    )
    missing = [
        Missing(f"{name} cannot tell the parameters of this study apart.")
        for name, shares in (("fANOVA", importance.fanova), ("PED-ANOVA", importance.ped_anova))
        if not shares
    ]
    return Section(title, lead, [parameters.importances(importance), *missing])


def _correlations(view: StudyView, importance: Importance) -> Section:
    title = "Rank correlations"
    why_not = _too_few(view)
    if why_not is not None:
        return Section(title, "", [why_not])
    if not importance.correlations:
        reason = "No parameter of this study is a number that took several values, so there is no order to compare."
        return Section(title, "", [Missing(reason)])
    unordered = [name for name, entry in view.study.space.items() if not is_ordered(entry)]
    lead = (
        f"Spearman's ρ of each parameter with valid_loss over the {len(view.complete):,} complete trials. Left of 0: "
        "higher values went with lower losses. Pale bars "
        f"are what chance alone may give (p ≥ {parameters.SIGNIFICANT_P}). A parameter whose best value lies in the "
        "middle may show none: see its slice."
    )
    if unordered:
        lead += f" Left out, since their values have no order: {', '.join(unordered)}."
    return Section(title, lead, [parameters.correlations(importance.correlations)])


def _most_important(view: StudyView, importance: Importance) -> list[Section]:
    """The slices and the contour of the two most important parameters."""
    searched = [name for name, entry in view.study.space.items() if not is_single(entry)]
    names = [*importance.ranking(), *searched]
    two = list(dict.fromkeys(name for name in names if name in searched))[:2]
    chosen = "the two most important parameters" if importance.ranking() else "the first two parameters of the file"
    measured = any(trial.epochs for trial in view.trials)
    if not two:
        why_not = Missing("No parameter of this study has more than one value to choose from.")
    else:
        why_not = None if measured else _nothing_measured(view)
    lead = f"Every trial's lowest valid_loss over {chosen}. The star is the best trial."
    if any(view.study.space[name].type == "categorical" for name in two):
        lead += " Points over a choice are spread sideways only to part them."
    slices = Section("Slices", lead, [parameters.slice_of(view, name) for name in two])
    if why_not is not None:
        return [Section("Slices", "", [why_not]), Section("Contour", "", [why_not])]
    if len(two) < 2:
        reason = f"{two[0]} is the only parameter with more than one value: a contour needs two."
        return [slices, Section("Contour", "", [Missing(reason)])]
    if len(view.complete) < MIN_TRIALS:
        return [slices, Section("Contour", "", [_few(view)])]
    lead = (
        f"valid_loss over {two[0]} and {two[1]}: the colour is a smooth mean over the complete trials near a place "
        "(the other parameters are averaged over as the sampler chose them). Read it near the points only: between and "
        "beyond them it is carried on from the nearest ones, and it is blank only where even those are very far."
    )
    lead += _choice_of_trials(view, len(drawn_trials(view)))
    return [slices, Section("Contour", lead, [parameters.contour(view, two[0], two[1])])]


def _parallel(view: StudyView, importance: Importance) -> Section:
    title = "Parallel coordinates"
    if not any(trial.epochs for trial in view.trials):
        return Section(title, "", [_nothing_measured(view)])
    ranking = importance.ranking()
    names = ranking + [name for name in view.study.space if name not in ranking]
    chart, n_drawn = parameters.parallel_coordinates(view, names)
    order = ", the most important parameter first" if ranking else ""
    lead = f"Each line is a trial on its way through its parameters to its lowest valid_loss{order}."
    return Section(title, lead + _choice_of_trials(view, n_drawn), [chart])


def _curves(view: StudyView) -> Section:
    title = "Learning curves"
    if not any(trial.epochs for trial in view.trials):
        return Section(title, "", [_nothing_measured(view)])
    chart, n_drawn = learning_curves(view)
    lead = "valid_loss after each epoch. A pruned trial's curve ends where the pruner ended it."
    return Section(title, lead + _choice_of_trials(view, n_drawn), [chart])


def _choice_of_trials(view: StudyView, n_drawn: int) -> str:
    n_trials = sum(bool(trial.epochs) for trial in view.trials)
    if n_drawn == n_trials:
        return ""
    return f" Of {n_trials:,} trials {n_drawn:,} are drawn: the best hundred, and an even choice of the others."


def _top(view: StudyView) -> Section:
    title = "Top trials"
    if not view.complete:
        return Section(title, "", [Missing("No trial is complete yet.", _run(view))])
    top = view.complete[:_N_TOP]
    names = list(view.study.space)
    first = top[0].value or 0.0
    rows: list[list[str]] = []
    for trial in top:
        assert trial.value is not None
        seconds = sum(result.total_s for result in trial.epochs.values())
        behind = "–" if trial is top[0] else f"+{trial.value - first:.5f}"
        figures = [f"#{trial.number}", f"{trial.value:.5f}", behind, percent(best_accuracy(trial))]
        spent = [f"{trial.best_epoch} of {len(trial.epochs)}", duration(seconds)]
        rows.append([*figures, *spent, *(brief(trial.parameters[name]) for name in names)])
    header = ["trial", "valid_loss", "behind", "valid_accuracy", "best epoch", "time", *names]
    lead = (
        f"The best {len(top)} of {len(view.complete):,} complete trials."
        if len(top) > 1
        else "The only complete trial."
    )
    return Section(title, lead, [Table(header, rows, highlighted=0)])


def _timeline(view: StudyView) -> Section:
    title = "Timeline"
    if not view.trials:
        return Section(title, "", [Missing("No trial has begun yet.", _run(view))])
    lead = (
        f"A study decides in virtual time, in which an epoch costs what its arithmetic costs: {view.study.slots} slots "
        "each run one trial after the other, the same on any machine. Below, who really computed what, by the clock."
    )
    slots = [span for span in slot_spans(view.study, view.trials) if span.end_units > span.start_units]
    by_worker = worker_spans(view.trials)
    blocks: list[Block] = [time.slots(view, slots)] if slots else [_nothing_measured(view)]
    if by_worker:
        pauses = len(sessions(view.trials)) - 1
        if pauses:
            left_out = "A pause between two runs is" if pauses == 1 else f"{pauses} pauses between runs are"
            lead += f" {left_out} left out of the clock."
        blocks.append(time.workers(view, by_worker))
    elif slots:
        blocks.append(Missing("Which worker computed what was not recorded: this study was run by an earlier version."))
    return Section(title, lead, blocks)


def _time(view: StudyView) -> Section:
    title = "Where the time went"
    spent = time_spent(view.trials)
    seconds: list[tuple[str, float | None, str]] = [
        ("train", spent.train_s, "in the training call"),
        ("compile", spent.compile_s, "compiling, or loading compiled programs"),
        ("evaluate", spent.evaluate_s, "in the validation call"),
        ("host", spent.host_s, "the rest of an epoch: permutations, transfers"),
        (
            "idle",
            spent.idle_s,
            "while the study ran: waiting, starting up, saving, and epochs that are not in the record (diverged, or "
            "past a prune)",
        ),
    ]
    known = [(name, part_s, meaning) for name, part_s, meaning in seconds if part_s is not None]
    total_s = sum(part_s for _, part_s, _ in known)
    if total_s <= 0:
        return Section(title, "", [Missing("No epoch of this study has a recorded duration yet.", _run(view))])
    parts = [
        Part(name, part_s / total_s, f"var(--{name})", duration(part_s), meaning) for name, part_s, meaning in known
    ]
    blocks: list[Block] = [Parts(parts)]
    if spent.idle_s is None:
        reason = "How long workers were idle cannot be told: which worker computed what was not recorded."
        blocks.append(Missing(reason))
    return Section(title, "The time of all workers together.", blocks)


def _test(view: StudyView, tests: Sequence[ChampionTest]) -> Section:
    title = "The champion's test"
    retrain = f"mnist-hpo retrain {view.study.name}"
    if view.best is None:
        return Section(title, "", [Missing("There is no best trial to re-train and test yet.", _run(view))])
    if not tests:
        reason = (
            "The best trial was not re-trained and tested yet, or not in this folder. "
            "The search itself never sees the test examples; to test, and then make this report again:"
        )
        return Section(title, "", [Missing(reason, retrain)])
    header = ["trial", "test accuracy", "macro F1", "log loss", "seeds", "epochs", "re-trained as recorded"]
    rows = [
        [
            f"#{test.trial}",
            mean_and_std(test.test_accuracy_mean, test.test_accuracy_std, percent=True),
            mean_and_std(test.test_macro_f1_mean, test.test_macro_f1_std, percent=True),
            mean_and_std(test.test_log_loss_mean, test.test_log_loss_std),
            seeds_in_words(test.n_seeds, test.n_diverged),
            str(test.best_epoch),
            test.reproduced,
        ]
        for test in tests
    ]
    numbers = [test.trial for test in tests]
    chosen = numbers.index(view.best.number) if view.best.number in numbers else None
    table = Table(header, rows, highlighted=chosen)
    lead = (
        "Trained anew on train + valid, once for each seed, and tested on the examples that the search never saw: "
        "mean ± standard deviation over the seeds"
        + (" that did not diverge." if any(test.n_diverged for test in tests) else ".")
    )
    if chosen is None:
        reason = f"Trial #{view.best.number}, which is the best one now, was not tested yet. To test it:"
        return Section(title, lead, [table, Missing(reason, retrain)])
    matrix = tests[chosen].confusion_matrix
    if matrix is None:
        reason = (
            f"Every seed of #{view.best.number} diverged: there is no model to test. Another trial may be steadier:"
        )
        return Section(title, lead, [table, Missing(reason, f"{retrain} --trial NUMBER")])
    whose = f"Seed {tests[chosen].registered_seed} of #{view.best.number}"
    return Section(title, lead, [table, champion.confusion(matrix, whose), _per_class(matrix, whose)])


def _per_class(matrix: Sequence[Sequence[int]], caption: str) -> Table:
    """Precision and recall of each class, of the model whose confusion matrix this is."""
    rows: list[list[str]] = []
    for label, row in enumerate(matrix):
        n_true, n_guessed = sum(row), sum(other[label] for other in matrix)
        recall, precision = row[label] / max(n_true, 1), row[label] / max(n_guessed, 1)
        rows.append([str(label), f"{n_true:,}", f"{100 * precision:.2f} %", f"{100 * recall:.2f} %"])
    return Table(["digit", "test examples", "precision", "recall"], rows, caption=caption)


def _provenance(view: StudyView) -> Section:
    lead = "Results are a function of the study file, the dataset's digest, the versions and the kind of CPU."
    rows = [["history_sha256", history_sha256(view.trials)], *([name, value] for name, value in view.context.items())]
    return Section(
        "Where it comes from", lead, [Table(["what", "value"], rows), Source("The study file", view.study_file)]
    )


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _run(view: StudyView) -> str:
    return f"mnist-hpo run studies/{view.study.name}.yaml"


def _nothing_measured(view: StudyView) -> Missing:
    return Missing("No trial has finished an epoch yet: there is no valid_loss to draw.", _run(view))


def _few(view: StudyView) -> Missing:
    n_complete = len(view.complete)
    found = (
        f"{n_complete} trial{' is' if n_complete == 1 else 's are'} complete" if n_complete else "no trial is complete"
    )
    return Missing(f"This needs at least {MIN_TRIALS} complete trials, and {found}.")


def _too_few(view: StudyView) -> Missing | None:
    """Why nothing can be said about parameters' effects, if so."""
    if len(view.complete) < MIN_TRIALS:
        return _few(view)
    if view.complete[0].value == view.complete[-1].value:
        return Missing("All complete trials have the same valid_loss: no parameter made a difference.")
    return None
