import bentoml
import pandas as pd
from bentoml.io import JSON, PandasDataFrame
from pydantic import BaseModel

wine_ref = bentoml.sklearn.get("wine_quality:latest")
wine_runner = wine_ref.to_runner()

svc = bentoml.Service("wine_quality", runners=[wine_runner])


class Wine(BaseModel):
    alcohol: float
    acidity: float
    sweet: bool = False


class Quality(BaseModel):
    model: str
    scores: list[float]


def score(df: pd.DataFrame) -> Quality:
    scores = wine_runner.predict.run(df[["alcohol", "acidity", "sweet"]])
    return Quality(model=wine_ref.tag.name, scores=scores.tolist())


@svc.api(
    input=PandasDataFrame.from_sample(
        pd.DataFrame([{"alcohol": 9.4, "acidity": 0.7, "sweet": False}])
    ),
    output=JSON(pydantic_model=Quality),
)
def rate_table(df: pd.DataFrame) -> Quality:
    return score(df)


@svc.api(input=JSON(pydantic_model=Wine), output=JSON(pydantic_model=Quality), route="/v1/rate")
def rate_one(wine: Wine) -> Quality:
    return score(pd.DataFrame([wine.dict()]))
