"""`--trust formats` with models that Transformers has saved, or that were made from such."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from support.asking import ask, request, tensor
from support.serving import Server, serving

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

pytestmark = [pytest.mark.runtimes, pytest.mark.e2e]

TEXTS = request(tensor("args", "BYTES", [2], ["good wine", "very bad"]))
SAVED = "model.safetensors"


class Attack:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.mkdir, (self.mark,)


def save(folder: Path, **extra: object) -> Path:
    """A text classifier whose weights are in safetensors."""
    from support import tiny_transformers

    folder.mkdir()
    tiny_transformers.bert(folder)
    extra = {"task": "text-classification", "device": "cpu", **extra}
    settings = {
        "name": folder.name,
        "implementation": "huggingface",
        "parameters": {"extra": extra},
    }
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def save_pickled(folder: Path) -> Path:
    """The same with the same weights as PyTorch pickles them."""
    from safetensors.torch import load_file

    save(folder)
    torch.save(load_file(folder / SAVED), folder / "pytorch_model.bin")
    (folder / SAVED).unlink()
    return folder


def answers(server: Server, name: str) -> list[dict[str, object]]:
    answer = ask(server.http, "POST", f"/v2/models/{name}/infer", TEXTS)
    assert answer.status == 200, answer.body
    return [json.loads(row) for row in answer.json["outputs"][0]["data"]]


def reason(server: Server, name: str) -> str:
    rows = ask(server.http, "POST", "/v2/repository/index").json
    return next(row["reason"] for row in rows if row["name"] == name)


def test_a_model_saved_by_transformers_answers_as_it_does_without_the_flag(tmp_path):
    save(tmp_path / "safe")
    found = []
    for trust in ("any", "formats"):
        with serving(tmp_path, "--trust", trust) as server:
            found.append(answers(server, "safe"))
    assert found[0] == found[1]
    assert {row["label"] for row in found[0]} <= {"LABEL_0", "LABEL_1"}


def test_the_same_model_as_a_pickle_is_refused_by_the_name_of_its_file(tmp_path):
    save(tmp_path / "safe")
    save_pickled(tmp_path / "pickled")
    with serving(tmp_path) as server:
        pickled, safe = answers(server, "pickled"), answers(server, "safe")
        assert np.allclose([row["score"] for row in pickled], [row["score"] for row in safe])
    with serving(tmp_path, "--trust", "formats") as server:
        assert answers(server, "safe") == safe
        assert "'pickled' has no weights in safetensors, only pickles: 'pytorch_model.bin'" in (
            reason(server, "pickled")
        )


def test_what_is_not_opened_is_refused_as_what_it_is(tmp_path):
    save(tmp_path / "safe")
    for file in ("model.h5", "weights.odd"):
        folder = save(tmp_path / file.replace(".", "-"))
        (folder / SAVED).rename(folder / file)
    save(tmp_path / "code", trust_remote_code=True)
    with serving(tmp_path, "--trust", "formats") as server:
        assert "only files of other frameworks: 'model.h5';" in reason(server, "model-h5")
        assert "'weights-odd' has no weights in safetensors;" in reason(server, "weights-odd")
        assert "'code' asks for trust_remote_code" in reason(server, "code")


def test_no_pickle_is_opened_beside_weights_or_in_their_place(tmp_path):
    mark, root = tmp_path / "mark", tmp_path / "models"
    root.mkdir()
    attack = pickle.dumps(Attack(mark))
    beside = save(root / "beside")
    for file in ("pytorch_model.bin", "training_args.bin", "adapter_model.bin", "vocab.pkl"):
        (beside / file).write_bytes(attack)
    for name, file in (("renamed", SAVED), ("decoy", "pytorch_model.bin")):
        folder = save(root / name)
        (folder / SAVED).rename(folder / "other.safetensors")
        (folder / file).write_bytes(attack)

    with serving(root, "--trust", "formats") as server:
        assert len(answers(server, "beside")) == 2
        for name in ("renamed", "decoy"):
            assert ask(server.http, "POST", f"/v2/models/{name}/infer", TEXTS).status == 503
    assert not mark.exists()
