"""A custom runtime as MLServer's users write it. Nothing here refers to Headrace."""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import get_model_uri
from transformers import pipeline


class SentimentModel(MLModel):
    """Labels each text of the first input, with a confidence score."""

    async def load(self) -> bool:
        """Load the pipeline from the folder that the settings name."""
        uri = await get_model_uri(self.settings)
        self._pipeline = pipeline("text-classification", model=uri, tokenizer=uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return one label and one score for each text."""
        texts = self.decode(payload.inputs[0], default_codec=StringCodec)
        moods = self._pipeline(texts)
        scores = np.array([mood["score"] for mood in moods], dtype=np.float32)
        return InferenceResponse(
            model_name=self.name,
            model_version=self.version,
            outputs=[
                StringCodec.encode_output("label", [mood["label"] for mood in moods]),
                NumpyCodec.encode_output("score", scores),
            ],
        )
