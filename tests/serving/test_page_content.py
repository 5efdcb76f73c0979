"""Which models become a page, and what the page may load: nothing."""

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from mnist_hpo.bundle.reading import StoredModel, read_model
from mnist_hpo.bundle.writing import ModelDescription
from mnist_hpo.serving.exported_page.description import check_describable, describe_model
from mnist_hpo.serving.exported_page.page import exported_page
from mnist_hpo.spec.errors import UserError


def test_other_models_are_refused() -> None:
    digits = StoredModel(ModelDescription("svm", {}, (28, 28, 1), 10), {}, {}, (), {}, {}, "model.safetensors")
    for stored, message in (
        (digits, "of the kind svm, only with cnn and mlp"),
        (replace(digits, model=replace(digits.model, model="ensemble")), "of the kind ensemble"),
        (replace(digits, model=replace(digits.model, model="mlp", n_classes=26)), "and 10 classes"),
        (replace(digits, model=replace(digits.model, model="mlp", image_shape=(32, 32, 3))), "32×32×3"),
    ):
        with pytest.raises(UserError, match=message):
            check_describable(stored)


def test_only_the_scripts_and_the_style_of_the_page_are_allowed(model_folder: Path) -> None:
    stored = read_model(model_folder)
    named = replace(stored, provenance={"study": "</script><script>alert(1)</script>"})
    page = exported_page(describe_model(named, None, "int8")).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="(.*?)"', page)
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    run = [text for _, text in re.findall(r"<(script|style)>(.*?)</\1>", page, re.DOTALL)]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert sorted(re.findall(r"'sha256-(.*?)'", policy)) == sorted(hashes)
    assert page.count("<script") == len(run) - 1 + 2  # A style, and two blocks of data.
