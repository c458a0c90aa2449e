import asyncio

import bentoml
import numpy as np
from bentoml.io import JSON, Image
from PIL.Image import Image as PILImage

reader = bentoml.sklearn.get("digit_reader:latest").to_runner()
judge = bentoml.picklable_model.get("ink_judge:latest").to_runner()

svc = bentoml.Service("digits", runners=[reader, judge])


@svc.api(input=Image(pilmode="L", mime_type="image/png"), output=JSON())
async def read_digit(img: PILImage) -> dict:
    pixels = np.asarray(img.resize((8, 8)), dtype="float64").reshape(1, 64) / 16
    odds, ink = await asyncio.gather(
        reader.predict_proba.async_run(pixels),
        judge.async_run(pixels),
    )
    return {"digit": odds.argmax(axis=1)[0], "odds": odds[0], "ink": ink[0]}
