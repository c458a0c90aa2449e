"""Serves a `Runnable` of a user's service to the runner that calls it."""

from __future__ import annotations

from typing import Any

from headrace.codecs import encode_response
from headrace.errors import InvalidInput, InvalidModel, listing, shorten
from headrace.model import Model
from headrace.protocol.messages import InferenceRequest, InferenceResponse, ModelMetadata
from headrace.runners.call_arguments import arguments_of
from headrace.runners.runner_targets import RunnableTarget
from headrace.runtimes.service import service_file


class RunnableRuntime(Model):
    """The Runnable of the runner `extra["runner"]`, in the service of `extra`'s other entries.

    Its class, and what it is created with, are found by importing the service here, so that nothing
    has to be pickled. The output that a request asks for is the method that answers.
    """

    platform = "headrace_runnable"

    def load(self) -> None:
        """Import the service, and create the object.

        Raises:
            InvalidModel, LoadFailed: see `service_file.load`; or there is no such runner any more.
        """
        extra = self.settings.extra
        service = service_file.load(extra["module"], extra["attribute"], self.settings.folder)
        found = [each for each in service.runners if each.name == extra["runner"]]
        if not found or not isinstance(found[0].target, RunnableTarget):
            raise InvalidModel(
                f"service '{service.name}' has no runner '{extra['runner']}' of a Runnable"
            )
        (self._runner,) = found
        self._object = self._runner.target.load()

    def unload(self) -> None:
        self._object = None

    def metadata(self) -> ModelMetadata:
        return ModelMetadata(platform=self.platform)

    def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer with what the requested method returns.

        Raises:
            InvalidInput: there is no such method, or it does not take what is given.
            BadModelOutput: the answer has a wrong number of rows, or cannot be sent.
        """
        method = self._method_of(request)
        args, kwargs = arguments_of(request)
        where = f"{self._runner.name}.{method.name}"
        answer = self._runner.target.call(self._object, where, method, args, kwargs)
        return encode_response(answer)

    def _method_of(self, request: InferenceRequest) -> Any:
        methods = self._runner.methods
        wanted = request.outputs or ([next(iter(methods))] if len(methods) == 1 else [])
        if len(wanted) != 1 or wanted[0] not in methods:
            shown = f"'{shorten(wanted[0])}'" if len(wanted) == 1 else f"{len(wanted)} outputs"
            raise InvalidInput(
                f"the only output of a request is the method to call, one of "
                f"{listing(list(methods))}, got {shown}"
            )
        return methods[wanted[0]]
