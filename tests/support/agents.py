"""MLflow's agents as model folders, written as source files that MLflow logs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from support.tracking import ENVIRONMENT

SAVE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow
for source, folder in json.loads(sys.argv[1]):
    mlflow.pyfunc.save_model(folder, python_model=source, pip_requirements=["mlflow"])
"""


# One of each kind of agent; each answers with what it was told.
CHAT = """
    import mlflow
    from mlflow.types.llm import ChatCompletionChunk, ChatCompletionResponse

    class Echo(mlflow.pyfunc.ChatModel):
        def predict(self, context, messages, params):
            message = {"role": "assistant", "content": messages[-1].content}
            choices = [{"index": 0, "message": message}]
            return ChatCompletionResponse.from_dict({"choices": choices, "model": "echo"})

        def predict_stream(self, context, messages, params):
            for word in messages[-1].content.split():
                choices = [{"index": 0, "delta": {"role": "assistant", "content": word}}]
                yield ChatCompletionChunk.from_dict({"choices": choices, "model": "echo"})

    mlflow.models.set_model(Echo())
"""
CHAT_AGENT = """
    import mlflow
    from mlflow.types.agent import ChatAgentChunk, ChatAgentMessage, ChatAgentResponse

    class Echo(mlflow.pyfunc.ChatAgent):
        def predict(self, messages, context=None, custom_inputs=None):
            step = ChatAgentMessage(role="assistant", content="let me think", id="1")
            said = ChatAgentMessage(role="assistant", content=messages[-1].content, id="2")
            return ChatAgentResponse(messages=[step, said])

        def predict_stream(self, messages, context=None, custom_inputs=None):
            for word in messages[-1].content.split():
                delta = ChatAgentMessage(role="assistant", content=word, id="1")
                yield ChatAgentChunk(delta=delta)

    mlflow.models.set_model(Echo())
"""
RESPONSES = """
    import mlflow
    from mlflow.types.responses import ResponsesAgentResponse, ResponsesAgentStreamEvent

    class Echo(mlflow.pyfunc.ResponsesAgent):
        def predict(self, request):
            text = " / ".join(item.content for item in request.input)
            return ResponsesAgentResponse(output=[self.create_text_output_item(text, "1")])

        def predict_stream(self, request):
            text = request.input[-1].content
            for word in text.split():
                yield ResponsesAgentStreamEvent(**self.create_text_delta(word, "1"))
            if text == "fail":
                raise RuntimeError("secret")
            item = self.create_text_output_item(text, "1")
            yield ResponsesAgentStreamEvent(type="response.output_item.done", item=item)

    mlflow.models.set_model(Echo())
"""
ECHOES = {"chat": CHAT, "chat_agent": CHAT_AGENT, "responses": RESPONSES}


def save_agents(root: Path, sources: dict[str, str], **keys: Any) -> None:
    """Save each source under its name in `root`, with a settings file that has these keys.

    In a process of its own, whose tracking store is in `root` too: MLflow runs agents to log them.
    """
    work = []
    for name, source in sources.items():
        (root / name).mkdir(parents=True)
        (root / name / "agent.py").write_text(textwrap.dedent(source))
        settings = {"implementation": "mlflow", "parameters": {"uri": "./model"}, **keys}
        (root / name / "model-settings.json").write_text(json.dumps(settings))
        work.append([str(root / name / "agent.py"), str(root / name / "model")])
    subprocess.run([sys.executable, "-c", SAVE, json.dumps(work)], env=tracked(root), check=True)


def tracked(root: Path) -> dict[str, str]:
    """The environment of processes that write their traces below `root`."""
    store = f"sqlite:///{root / 'tracking.db'}"
    return {**os.environ, **ENVIRONMENT, "MLFLOW_TRACKING_URI": store}
