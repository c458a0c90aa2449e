from __future__ import annotations

import gc
import json
import os
import sys
import weakref

import numpy as np
import pytest

from headrace.codecs import image
from headrace.codecs.array import tensor_of
from headrace.codecs.huggingface_content import json_list
from headrace.errors import InvalidInput, LoadFailed
from headrace.protocol.messages import InferenceRequest
from headrace.protocol.tensor import Tensor, pack_bytes
from headrace.runtimes import create
from headrace.settings import ModelSettings

# Read by the Hub's client when it is first imported.
os.environ["HF_HUB_OFFLINE"] = "1"
transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

pytestmark = [
    pytest.mark.runtimes,
    pytest.mark.filterwarnings("default:::transformers"),
    pytest.mark.filterwarnings("ignore:.*SWIG.*:DeprecationWarning"),
]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "wine", "very", "is", "this"]
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": len(WORDS),
    "max_position_embeddings": 32,
}


def save_bert(folder, kind, **config):
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    torch.manual_seed(0)
    cls = getattr(transformers, f"BertFor{kind}")
    cls(transformers.BertConfig(**SMALL, **config)).save_pretrained(folder)
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)


def save_gpt(folder):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="[SEP]").save_pretrained(
        folder
    )
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, n_positions=32,
        eos_token_id=3, bos_token_id=2,
    )  # fmt: skip
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)


def save_vit(folder):
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=8, patch_size=4, num_labels=3,
    )  # fmt: skip
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    size = {"height": 8, "width": 8}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)


def load(uri, task, implementation="huggingface", size=None, **extra):
    settings = ModelSettings(
        "m", implementation, uri=str(uri), extra={"task": task, **extra}, max_batch_size=size
    )
    runtime = create(settings)
    runtime.load()
    return runtime


def texts(name, *values):
    packed = pack_bytes([value.encode() for value in values])
    return Tensor(name, "BYTES", [len(values)], packed, {"content_type": "str"})


def ask(runtime, *tensors, **parameters):
    (output,) = runtime.infer(InferenceRequest(list(tensors), parameters or None)).outputs
    assert (output.name, output.content_type) == ("output", "hg_jsonlist")
    return json_list(output)


def one_by_one(runtime, *values):
    return [row for value in values for row in ask(runtime, texts("args", value))]


def nearly(rows):
    """The rows, with numbers rounded to the digits that no order of adding in float32 changes."""
    return json.loads(json.dumps(rows), parse_float=lambda text: round(float(text), 4))


PHRASES = ("good wine", "this is very bad")


def test_text_classification_answers_as_the_pipeline_does(tmp_path):
    save_bert(tmp_path, "SequenceClassification")
    runtime = load(tmp_path, "text-classification", "mlserver_huggingface.HuggingFaceRuntime")
    pipeline = transformers.pipeline("text-classification", model=str(tmp_path), device="cpu")
    assert nearly(ask(runtime, texts("args", *PHRASES))) == nearly(pipeline(list(PHRASES)))


@pytest.mark.parametrize(
    ("task", "kind", "phrases"),
    [
        pytest.param("text-classification", "SequenceClassification", PHRASES, id="text"),
        pytest.param("token-classification", "TokenClassification", PHRASES, id="token"),
        pytest.param("token-classification", "TokenClassification", ("good", "bad"), id="word"),
        pytest.param("fill-mask", "MaskedLM", ("[MASK] wine", "this [MASK]"), id="mask"),
        pytest.param("feature-extraction", "MaskedLM", PHRASES, id="features"),
    ],
)
def test_a_batch_answers_as_its_rows_do(task, kind, phrases, tmp_path):
    save_bert(tmp_path, kind)
    runtime = load(tmp_path, task, size=4)
    assert nearly(ask(runtime, texts("args", *phrases))) == nearly(one_by_one(runtime, *phrases))


def test_generation_pads_on_the_left_and_takes_options(tmp_path):
    save_gpt(tmp_path)
    runtime = load(tmp_path, "text-generation", size=4)
    options = {"max_new_tokens": 4, "do_sample": False}
    together = ask(runtime, texts("args", *PHRASES), **options)
    alone = [row for text in PHRASES for row in ask(runtime, texts("args", text), **options)]
    assert together == alone
    assert len(together) == 2


@pytest.mark.parametrize(
    ("name", "size", "rows"),
    [
        pytest.param("args", None, 3, id="args"),
        pytest.param("inputs", None, 1, id="another name"),
        pytest.param("args", 4, 1, id="requests may be merged"),
    ],
)
def test_under_mlservers_name_each_item_listed_for_a_lone_row_is_an_element(
    name, size, rows, tmp_path
):
    save_bert(tmp_path, "SequenceClassification", num_labels=3)
    runtime = load(tmp_path, "text-classification", "mlserver_huggingface.HuggingFaceRuntime", size)

    answer = ask(runtime, texts(name, "good wine"), top_k=3)

    assert len(answer) == rows
    assert len(ask(runtime, texts(name, *PHRASES), top_k=3)) == 2


def test_under_mlservers_name_a_generated_text_is_an_object(tmp_path):
    save_gpt(tmp_path)
    runtime = load(tmp_path, "text-generation", "mlserver_huggingface.HuggingFaceRuntime")

    (answer,) = ask(runtime, texts("args", "good wine"), max_new_tokens=2)

    assert answer["generated_text"].startswith("good wine")


def test_options_may_be_inputs_as_mlserver_takes_them(tmp_path):
    save_bert(tmp_path, "SequenceClassification", num_labels=3)
    runtime = load(tmp_path, "text-classification")
    count = tensor_of("top_k", np.array([2]))
    count.parameters = {"content_type": "raw"}
    (row,) = ask(runtime, texts("args", "good"), count)
    assert len(row) == 2


def test_zero_shot_takes_labels(tmp_path):
    labels = {"label2id": {"entailment": 0, "other": 1}, "id2label": {0: "entailment", 1: "other"}}
    save_bert(tmp_path, "SequenceClassification", **labels)
    runtime = load(tmp_path, "zero-shot-classification")
    rows = ask(runtime, texts("array_inputs", *PHRASES), texts("candidate_labels", "a", "b", "c"))
    assert [sorted(row["labels"]) for row in rows] == [["a", "b", "c"]] * 2


def test_labels_that_could_be_rows_of_a_merged_batch_are_refused(tmp_path):
    save_bert(tmp_path, "SequenceClassification", label2id={"entailment": 0, "x": 1})
    runtime = load(tmp_path, "zero-shot-classification", size=8)
    with pytest.raises(InvalidInput, match="'candidate_labels'.*set max_batch_size to 1"):
        ask(runtime, texts("args", *PHRASES), texts("candidate_labels", "a", "b"))
    (row,) = ask(runtime, texts("args", "good"), candidate_labels="a,b")
    assert sorted(row["labels"]) == ["a", "b"]


def picture(color):
    from PIL import Image

    return image.to_text(Image.new("RGB", (8, 8), color))


def pictures(content_type, *values):
    packed = pack_bytes([value.encode() for value in values])
    return Tensor("args", "BYTES", [len(values)], packed, {"content_type": content_type})


def test_images_come_as_files_and_in_json(tmp_path):
    save_vit(tmp_path)
    runtime = load(tmp_path, "image-classification", size=2)
    red, blue = picture("red"), picture("blue")
    by_file = ask(runtime, pictures("pillow_image", red, blue))
    by_json = ask(runtime, pictures("hg_jsonlist", json.dumps(red), json.dumps(blue)))
    assert len(by_file) == 2
    assert by_file == by_json


@pytest.mark.parametrize("name", ["http://127.0.0.1:9/x.png", "/etc/passwd", "file:///etc/passwd"])
def test_urls_and_files_of_the_server_are_not_fetched(name, tmp_path):
    save_vit(tmp_path)
    runtime = load(tmp_path, "image-classification")
    with pytest.raises(InvalidInput, match="'args'.*expected the data itself, got a URL"):
        ask(runtime, texts("args", name))


@pytest.mark.parametrize(
    "option", ["trust_remote_code", "custom_generate", "num_workers", "nosuch"]
)
def test_options_that_are_not_the_callers_are_refused_by_name(option, tmp_path):
    save_gpt(tmp_path)
    runtime = load(tmp_path, "text-generation")
    with pytest.raises(InvalidInput, match=f"parameter '{option}' is unknown"):
        ask(runtime, texts("args", "good"), **{option: "x"})


def test_a_text_without_its_mask_is_the_callers_fault(tmp_path):
    save_bert(tmp_path, "MaskedLM")
    runtime = load(tmp_path, "fill-mask")
    with pytest.raises(InvalidInput, match="'fill-mask' refuses the input"):
        ask(runtime, texts("args", "good wine"))


def test_the_pipeline_is_made_once(tmp_path, monkeypatch):
    save_bert(tmp_path, "SequenceClassification")
    made = []
    # While it is imported, Transformers replaces itself with another module.
    module = sys.modules["transformers"]
    make = module.pipeline
    monkeypatch.setattr(
        module, "pipeline", lambda *args, **options: made.append(1) or make(*args, **options)
    )
    runtime = load(tmp_path, "text-classification")
    ask(runtime, texts("args", "good"))
    assert made == [1]


def test_metadata_names_task_device_and_content_types(tmp_path):
    save_bert(tmp_path, "SequenceClassification")
    metadata = load(tmp_path, "text-classification").metadata()
    assert metadata.parameters["task"] == "text-classification"
    assert metadata.parameters["device"] in ("cpu", "cuda:0")
    assert metadata.inputs[0].parameters == {"content_type": "str"}
    assert metadata.outputs[0].parameters == {"content_type": "hg_jsonlist"}
    assert not metadata.row_independent
    assert metadata.from_dict(metadata.to_dict()) == metadata


def test_variables_set_what_the_settings_leave_open(tmp_path, monkeypatch):
    save_bert(tmp_path, "SequenceClassification")
    monkeypatch.setenv("MLSERVER_MODEL_HUGGINGFACE_TASK", "text-classification")
    seldon = [{"name": "pretrained_model", "value": str(tmp_path), "type": "STRING"}]
    monkeypatch.setenv("PREDICTIVE_UNIT_PARAMETERS", json.dumps(seldon))
    runtime = create(ModelSettings("m", "huggingface", uri="/nowhere"))
    runtime.load()
    assert runtime.metadata().parameters["task"] == "text-classification"


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        pytest.param({"framework": "tf"}, "expected 'pt'", id="framework"),
        pytest.param({"optimum_model": True}, "serve it with 'onnx'", id="optimum"),
        pytest.param({"taks": "x"}, "unknown keys 'taks'", id="typo"),
        pytest.param({"device": "cuda:99"}, "PyTorch sees", id="device"),
        pytest.param({}, "no config.json", id="empty folder"),
    ],
)
def test_a_load_that_cannot_work_says_why(extra, reason, tmp_path):
    with pytest.raises(LoadFailed, match=reason):
        load(tmp_path, "text-classification", **extra)


def test_unloading_frees_the_model(tmp_path):
    save_bert(tmp_path, "SequenceClassification")
    runtime = load(tmp_path, "text-classification")
    watched = weakref.ref(runtime._pipeline.model)
    runtime.unload()
    gc.collect()
    assert watched() is None


def test_without_transformers_the_load_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(LoadFailed, match=r"pip install 'headrace\[huggingface\]'"):
        load(tmp_path, "text-classification")
