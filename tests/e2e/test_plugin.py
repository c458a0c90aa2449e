"""Plugins behind a real server: the raw routes, what they accept and return, other models."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from support.asking import Answer, Client, ask, numbers
from support.custom import write_model
from support.plugins import source, write_plugin
from support.serving import Server, serving

pytestmark = pytest.mark.e2e

SIZE = """
from PIL import Image
import io
image = Image.open(io.BytesIO(data))
return json.dumps({"width": image.width, "height": image.height})
"""
FLIP = """
from PIL import Image
import io
return Image.open(io.BytesIO(data)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
"""
# Answers each payload with the size of its batch, which a gate lets grow.
BATCH = """
def predict_batch(self, model, data):
    if b"wait" in data:
        time.sleep(0.5)
    if b"bad" in data:
        raise InvalidInput("a bad payload")
    return [len(data)] * len(data)
"""
FORM = (
    b'--XX\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n'
    b"Content-Type: image/png\r\n\r\n%b\r\n--XX--\r\n"
)
FORM_TYPE = "multipart/form-data; boundary=XX"


def image(width: int = 3, height: int = 2, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    picture = Image.new("RGB", (width, height))
    picture.putpixel((0, 0), (255, 0, 0))
    picture.save(buffer, form)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Plugins `size`, `flip`, `batch` and `json`, and a model `m` that is not a plugin."""
    root = tmp_path_factory.mktemp("plugins")
    write_plugin(root, SIZE, "image/png", name="size")
    write_plugin(root, FLIP, "image/*", name="flip", parameters={"version": "2"})
    write_plugin(root, more=BATCH, name="batch")
    write_plugin(root, "return json.loads(data)", "application/json", name="json")
    write_model(root)
    with serving(root, "--max-body-size", 1_000_000) as server:
        yield server


def post(server: Server, path: str, body: bytes, media_type: str | None) -> Answer:
    headers = {} if media_type is None else {"Content-Type": media_type}
    return ask(server.http, "POST", path, body, headers)


def raw(server: Server, name: str, body: bytes, media_type: str | None) -> Answer:
    return post(server, f"/v2/models/{name}/raw", body, media_type)


@pytest.mark.parametrize(
    "media_type", ["image/png", "IMAGE/PNG", "image/png; charset=binary", "image/png;q=1"]
)
def test_an_image_goes_in_and_json_comes_out(media_type: str, server: Server) -> None:
    answer = raw(server, "size", image(), media_type)

    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.body == b'{"width": 3, "height": 2}'


@pytest.mark.parametrize("path", ["/v2/models/flip/raw", "/v2/models/flip/versions/2/raw"])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_image_goes_in_and_an_image_comes_out(form: str, path: str, server: Server) -> None:
    answer = post(server, path, image(form=form), f"image/{form.lower()}")

    assert answer.headers["content-type"] == "image/png"
    flipped = Image.open(io.BytesIO(answer.body))
    assert flipped.getpixel((2, 0))[0] > flipped.getpixel((0, 0))[0]


def test_a_payload_too_large_for_one_segment_arrives_whole(server: Server) -> None:
    body = json.dumps(["x" * 1000] * 500).encode()

    answer = raw(server, "json", body, "application/json")

    assert answer.json == json.loads(body)


def test_the_file_of_a_form_is_the_payload(server: Server) -> None:
    answer = raw(server, "size", FORM % image(), FORM_TYPE)

    assert (answer.status, answer.json) == (200, {"width": 3, "height": 2})


@pytest.mark.parametrize(
    ("name", "body", "media_type", "status", "words"),
    [
        pytest.param(
            "size", b"x", "image/jpeg", 415, "takes 'image/png', got 'image/jpeg'", id="type"
        ),
        pytest.param("size", b"x", None, 415, "takes 'image/png', got none", id="no type"),
        pytest.param(
            "json", FORM % b"{}", FORM_TYPE, 415, "the form's part: model 'json' takes", id="part"
        ),
        pytest.param("size", b"", "image/png", 400, "the payload is empty", id="empty"),
        pytest.param("size", FORM % b"", FORM_TYPE, 400, "the payload is empty", id="empty part"),
        pytest.param("size", b"--XX--", FORM_TYPE, 400, "no file and 0 fields", id="empty form"),
        pytest.param("size", b"hello", "image/png", 400, "not an image", id="no image"),
        pytest.param("json", b"{", "application/json", 400, "not JSON", id="no JSON"),
        pytest.param("json", b"null", "application/json", 500, "returned None", id="no answer"),
        pytest.param("size", bytes(2_000_000), "image/png", 413, "--max-body-size", id="large"),
        pytest.param("m", b"x", "image/png", 400, "'m' is not a plugin", id="no plugin"),
        pytest.param("nobody", b"x", "image/png", 404, "not found", id="no model"),
    ],
)
def test_what_is_refused_says_why(
    name: str, body: bytes, media_type: str, status: int, words: str, server: Server
) -> None:
    answer = raw(server, name, body, media_type)

    assert answer.status == status
    assert set(answer.json) == {"error", "code"}
    assert words in answer.json["error"]


def test_with_several_plugins_the_short_route_names_the_route_to_use(server: Server) -> None:
    answer = post(server, "/api/predict", image(), "image/png")

    assert answer.status == 400
    assert "/v2/models/{name}/raw" in answer.json["error"]


def test_a_plugin_has_no_scoring_route_and_says_which_it_has(server: Server) -> None:
    answer = ask(server.http, "POST", "/v2/models/size/invocations", {"inputs": [1]})

    assert answer.status == 400
    assert "/v2/models/size/raw" in answer.json["message"]


@pytest.mark.parametrize("path", ["/api/predict", "/v2/models/size/raw"])
def test_other_verbs_are_not_answered(path: str, server: Server) -> None:
    assert ask(server.http, "GET", path).status == 405


def test_concurrent_payloads_become_batches_and_a_bad_one_fails_alone(server: Server) -> None:
    def score(body: bytes) -> Answer:
        return raw(server, "batch", body, "text/plain")

    with ThreadPoolExecutor(12) as threads:
        slow = [threads.submit(score, b"wait") for _ in range(2)]
        others = list(threads.map(score, [b"bad", *[b"good"] * 9]))
        statuses = [future.result().status for future in slow]

    assert statuses == [200, 200]
    assert others[0].status == 400
    assert others[0].json["error"] == "a bad payload"
    assert [answer.status for answer in others[1:]] == [200] * 9
    # The bad one made its batch run again one by one, so now there is a batch without it.
    with ThreadPoolExecutor(12) as threads:
        sizes = list(threads.map(score, [b"wait", b"wait", *[b"good"] * 9]))
    assert max(answer.json for answer in sizes) > 1


def test_the_status_has_the_keys_that_scripts_read(server: Server) -> None:
    status = ask(server.http, "GET", "/api/status").json

    assert set(status) == {"system", "models"}
    system = status["system"]
    assert set(system) == {
        "pid",
        "current_dir",
        "python.version",
        "request",
        "current_logging_level",
    }
    assert system["pid"] == server.process.pid
    assert system["request"] == {"url_root": server.http + "/", "remote_addr": "127.0.0.1"}
    assert system["current_logging_level"] == "INFO"
    assert [model["name"] for model in status["models"]] == ["batch", "flip", "json", "m", "size"]
    assert {model["state"] for model in status["models"]} == {"READY"}


def test_the_openapi_document_has_the_real_media_types(server: Server) -> None:
    document = ask(server.http, "GET", "/openapi.json").json

    for alias in ("/api/swagger", "/swagger.json"):
        assert ask(server.http, "GET", alias).json == document
    route = document["paths"]["/v2/models/size/raw"]["post"]
    assert set(route["requestBody"]["content"]) == {"image/png", "multipart/form-data"}
    assert "/v2/models/size/invocations" not in document["paths"]
    assert "/v2/models/m/raw" not in document["paths"]
    assert "/api/predict" not in document["paths"]


def test_the_first_page_leads_to_the_others(server: Server) -> None:
    with Client(server.http) as client:
        page = client.ask("GET", "/").body.decode()
        paths = [line.split()[0] for line in page.splitlines() if line.startswith("/")]

        assert "'size'" in page
        assert paths
        for path in paths:
            assert client.ask("GET", path.replace("MODEL", "size")).status == 200


def test_plugins_with_the_same_file_name_keep_the_modules_next_to_them(tmp_path: Any) -> None:
    late = "import helper, pickle\nreturn pickle.loads(pickle.dumps(helper.Name())).name"
    for name in ("a", "b"):
        folder = write_plugin(tmp_path, late, name=name)
        (folder / "helper.py").write_text(f"class Name:\n    name = {name!r}")
    with serving(tmp_path) as server:
        answers = [raw(server, name, b"x", "text/plain").body for name in ("a", "b", "a")]

    assert answers == [b"a", b"b", b"a"]


def test_a_neighbour_that_is_not_a_plugin_is_served_as_usual(server: Server) -> None:
    answer = ask(server.http, "POST", "/v2/models/m/infer", numbers(4))

    assert answer.json["outputs"][0]["data"] == [8.0]


def test_the_only_plugin_answers_the_short_route_alongside_other_models(tmp_path: Any) -> None:
    more = "def response_content_type(self):\n    return 'text/csv'"
    write_plugin(tmp_path, more=more)
    write_model(tmp_path)
    with serving(tmp_path) as server:
        answer = post(server, "/api/predict", b"a,b", "text/plain")
        document = ask(server.http, "GET", "/openapi.json").json

    assert (answer.body, answer.headers["content-type"]) == (b"A,B", "text/csv")
    content = document["paths"]["/api/predict"]["post"]["responses"]["200"]["content"]
    assert list(content) == ["text/csv"]


def test_the_cap_on_bodies_applies_to_small_ones_too(tmp_path: Any) -> None:
    with serving(write_plugin(tmp_path), "--max-body-size", 10) as server:
        assert post(server, "/api/predict", b"x" * 10, "text/plain").status == 200
        answer = post(server, "/api/predict", b"x" * 11, "text/plain")

    assert answer.status == 413
    assert "--max-body-size" in answer.json["error"]


def test_without_a_plugin_the_short_route_says_so(tmp_path: Any) -> None:
    with serving(write_model(tmp_path)) as server:
        answer = post(server, "/api/predict", b"a", "text/plain")

    assert (answer.status, answer.json["error"]) == (404, "no plugin is served")


def test_a_plugin_that_did_not_load_is_not_ready_and_says_why(tmp_path: Any) -> None:
    broken = source().replace("return model_uri", "raise RuntimeError('no weights')")
    folder = write_plugin(tmp_path)
    (folder / "plugin.py").write_text(broken)
    write_model(tmp_path)
    with serving(tmp_path) as server:
        for path in ("/api/predict", "/v2/models/p/raw"):
            answer = post(server, path, b"a", "text/plain")

            assert answer.status == 503
            assert "raised RuntimeError while loading" in answer.json["error"]
            assert "no weights" not in answer.json["error"]
        assert "no weights" in server.log()
