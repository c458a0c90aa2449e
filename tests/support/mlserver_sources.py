"""Custom runtimes as users of MLServer write them, each a whole module."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from headrace.settings import ModelSettings

SUM = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

class Runtime(MLModel):
    async def load(self) -> bool:
        self._scale = self.settings.parameters.extra.get("scale", 1)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        total = sum(self.decode(i, default_codec=NumpyCodec) for i in payload.inputs)
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[NumpyCodec.encode_output("total", total * self._scale)],
        )
"""

UPPER = """
from typing import List
from mlserver import MLModel
from mlserver.codecs import decode_args

class Runtime(MLModel):
    @decode_args
    async def predict(self, text: List[str]) -> List[str]:
        return [element.upper() for element in text]
"""

TEXT_FILE = """
import json
from mlserver import MLModel, types
from mlserver.codecs import StringCodec
from mlserver.errors import InferenceError
from mlserver.logging import logger
from mlserver.utils import get_model_uri

WELLKNOWN = ["model.json", "model.dat"]

class Runtime(MLModel):
    async def load(self):
        uri = await get_model_uri(self._settings, wellknown_filenames=WELLKNOWN)
        with open(uri) as file:
            self._words = json.load(file)
        logger.info("loaded")
        self.ready = True
        return self.ready

    async def predict(self, payload: types.InferenceRequest) -> types.InferenceResponse:
        texts = self._texts(payload)
        known = [self._words.get(text, 0) for text in texts]
        return types.InferenceResponse(
            model_name=self.name,
            outputs=[
                types.ResponseOutput(
                    name="score",
                    shape=[len(known)],
                    datatype="FP32",
                    data=known,
                    parameters=types.Parameters(content_type="np", source="words"),
                )
            ],
        )

    def _texts(self, payload):
        if len(payload.inputs) != 1:
            raise InferenceError(f"one input expected, {len(payload.inputs)} received")
        return StringCodec.decode_input(payload.inputs[0])
"""

JSON_RUNTIME = """
import json
from typing import Any, Dict
from mlserver import MLModel, types
from mlserver.codecs import StringCodec

class Runtime(MLModel):
    async def predict(self, payload):
        request = self._extract_json(payload)
        response = {"request": request, "answer": 42}
        text = json.dumps(response, ensure_ascii=False).encode("utf-8")
        return types.InferenceResponse(
            id=payload.id,
            model_name=self.name,
            outputs=[
                types.ResponseOutput(
                    name="echo", shape=[1], datatype="BYTES", data=[text],
                    parameters=types.Parameters(content_type="str"),
                )
            ],
        )

    def _extract_json(self, payload: types.InferenceRequest) -> Dict[str, Any]:
        inputs = {}
        for inp in payload.inputs:
            inputs[inp.name] = json.loads(
                "".join(self.decode(inp, default_codec=StringCodec))
            )
        return inputs
"""

RAW = """
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

class Runtime(MLModel):
    async def predict(self, request: InferenceRequest) -> InferenceResponse:
        root = request.inputs[0].data.root
        assert root == list(request.inputs[0].data)
        return InferenceResponse(
            model_name=self.name,
            parameters={"first": str(root[0])},
            outputs=[
                ResponseOutput(**{
                    "name": "y", "shape": [len(root)], "datatype": "INT64",
                    "data": [value + 1 for value in root],
                })
            ],
        )
"""

FRAME = """
import pandas as pd
from mlserver import MLModel
from mlserver.codecs import PandasCodec

class Runtime(MLModel):
    async def predict(self, payload):
        frame = self.decode_request(payload, default_codec=PandasCodec)
        frame["total"] = frame["a"] + frame["b"]
        return self.encode_response(frame[["name", "total"]], default_codec=PandasCodec)
"""

STREAM = """
from typing import AsyncIterator
from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

class Runtime(MLModel):
    async def predict_stream(
        self, payloads: AsyncIterator[InferenceRequest]
    ) -> AsyncIterator[InferenceResponse]:
        payload = [_ async for _ in payloads][0]
        for word in StringCodec.decode_input(payload.inputs[0])[0].split():
            yield InferenceResponse(
                model_name=self.name, outputs=[StringCodec.encode_output("word", [word])]
            )
"""


def write(folder: Path, source: str, **settings: Any) -> Path:
    """A model folder with this source and its settings; the folder itself."""
    folder.mkdir(parents=True, exist_ok=True)
    module = f"runtime_{folder.name}"
    (folder / f"{module}.py").write_text(textwrap.dedent(source))
    settings = {"name": folder.name, "implementation": f"{module}.Runtime", **settings}
    (folder / "model-settings.json").write_text(json.dumps(settings))
    return folder


def settings_of(folder: Path, **more: Any) -> ModelSettings:
    """The settings that `write` wrote, as a worker gets them."""
    written = json.loads((folder / "model-settings.json").read_text())
    name, implementation = written["name"], written["implementation"]
    more = {"uri": str(folder), "folder": str(folder), **more}
    return ModelSettings(name, implementation, **more)
