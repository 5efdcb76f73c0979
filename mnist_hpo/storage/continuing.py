"""Whether a recorded study can be continued with the current study file, dataset and CPU."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from ruamel.yaml import YAML

from mnist_hpo.spec.folder_content import CONTENT, FolderContent
from mnist_hpo.spec.init_from import INIT_FROM, SourceWeights
from mnist_hpo.spec.provenance import CPU, KERNELS, NUMPY_FEATURES, NUMPY_VERSION
from mnist_hpo.spec.study import Study


def why_not_continuable(
    study: Study,
    context: Mapping[str, str],
    *,
    recorded_identity: Mapping[str, Any],
    recorded_context: Mapping[str, str],
    n_recorded: int,
) -> str | None:
    """Return why the record cannot be continued and what to do; None if it can be continued.

    Args:
        study: the current study.
        context: the current dataset digest, versions and CPU.
        recorded_identity: `Study.identity` when the study was started.
        recorded_context: `context` when the study was started. Earlier versions recorded less of it.
        n_recorded: the number of recorded trials.

    """
    return (
        _changed(study, recorded_identity)
        or _other_data(study.name, recorded_context, context)
        or _other_weights(study.name, recorded_context, context)
        or _other_cpu(study.name, recorded_context, context)
        or _other_kernels(study.name, recorded_context, context)
        or _budget_too_small(study, n_recorded)
    )


def _changed(study: Study, recorded: Mapping[str, Any]) -> str | None:
    # Compare as JSON, since the record was stored as JSON.
    before = _parsed(recorded, study.budget.n_trials)
    if before is not None and before.identity() == study.identity():
        return None
    then = _yaml(recorded if before is None else before.identity(in_full=True))
    now = _yaml(study.identity(in_full=True))
    lines = difflib.unified_diff(then, now, "when it was started", "in the file now", lineterm="")
    return (
        f"the study {study.name!r} was started with another study file:\n"
        + "\n".join(lines)
        + "\nOnly budget.n_trials may change in a study that has results. "
        + "Revert the change, or rename the study."
    )


def _parsed(recorded: Mapping[str, Any], n_trials: int) -> Study | None:
    """Return the recorded study, which an earlier version may have written; None if this version cannot read it."""
    try:
        return Study.model_validate({**recorded, "budget": {**recorded["budget"], "n_trials": n_trials}})
    except (ValidationError, KeyError, TypeError):
        return None


def _other_data(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    key = "dataset_digest"
    if recorded.get(key) == now.get(key):
        return None
    if CONTENT in recorded and CONTENT in now:
        return _changed_files(name, FolderContent.from_json(recorded[CONTENT]), FolderContent.from_json(now[CONTENT]))
    return (
        f"the study {name!r} was started on a dataset with the digest {recorded.get(key)}, "
        f"but the dataset prepared here has {now.get(key)}"
    )


def _changed_files(name: str, recorded: FolderContent, now: FolderContent) -> str:
    changed = [file for file, digest in recorded.file_sha256.items() if now.file_sha256[file] != digest]
    digests = "".join(f"\n  {file}: {recorded.file_sha256[file]} then, {now.file_sha256[file]} now" for file in changed)
    return (
        f"the study {name!r} was started with other images or labels in the dataset's folder. Changed are (SHA-256 as "
        f"IDX files):{digests}\nPut the folder back as it was, or give the study another name."
    )


def _other_weights(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    if INIT_FROM not in recorded or INIT_FROM not in now:
        return None
    then, here = (SourceWeights.from_json(context[INIT_FROM]) for context in (recorded, now))
    if then.sha256 == here.sha256:
        return None
    return (
        f"the study {name!r} was started from other weights: {then}, but init_from now names {here}. Restore the "
        "source, or give the study another name"
    )


def _other_cpu(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    if CPU in recorded and CPU in now and recorded[CPU] != now[CPU]:
        return (
            f"the study {name!r} was started on another kind of CPU, {_difference(recorded[CPU], now[CPU])}; "
            "its results would differ. Continue it on such a CPU, or give the study another name"
        )
    # Another version of NumPy may have other names for the same features.
    comparable = recorded.get(NUMPY_VERSION) == now.get(NUMPY_VERSION)
    then, here = recorded.get(NUMPY_FEATURES), now.get(NUMPY_FEATURES)
    if not comparable or then is None or here is None or then == here:
        return None
    difference = _difference(then, here)
    return (
        f"the study {name!r} was started with NumPy using other CPU features, {difference}; the sampler would propose "
        "other hyperparameters. Set NPY_DISABLE_CPU_FEATURES as it was then (usually: unset it), continue the study on "
        "such a CPU, or give it another name"
    )


def _other_kernels(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    # Versions that did not record the setting only had "on".
    then, here = (context.get(KERNELS, "on") for context in (recorded, now))
    if then == here:
        return None
    return (
        f"the study {name!r} was started with MNIST_HPO_KERNELS={then}, but now it is {here}; its results would "
        f"differ. Set MNIST_HPO_KERNELS={then}, or give the study another name"
    )


def _difference(recorded: str, now: str) -> str:
    """Describe how two lists of features differ: `'a b c' (here 'a b'; missing here: c)`."""
    then, here = recorded.split(), now.split()
    missing, more = [name for name in then if name not in here], [name for name in here if name not in then]
    details = [
        *([f"missing here: {' '.join(missing)}"] if missing else []),
        *([f"only here: {' '.join(more)}"] if more else []),
    ]
    return f"{recorded!r} (here {now!r}; {'; '.join(details) or 'in another order'})"


def _budget_too_small(study: Study, n_recorded: int) -> str | None:
    """Return an error message if more trials are recorded than the budget allows, which would never end."""
    if study.budget.n_trials >= n_recorded:
        return None
    return (
        f"budget.n_trials is {study.budget.n_trials}, but {n_recorded} trials of the study {study.name!r} are "
        f"already recorded; make it {n_recorded} or more, or give the study another name"
    )


def _yaml(document: Mapping[str, Any]) -> Sequence[str]:
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.dump(dict(document), text)
    return text.getvalue().splitlines()
