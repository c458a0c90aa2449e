"""What happens between callers and models, the same for every transport.

`plane` answers questions about models, `resolve` finds the model for a request, `call` carries
the request to it and the answer back, `canary_call` asks another version if a canary fails, and
`observers` see every call.
"""

from headrace.dataplane.call import Call, Calls, as_error
from headrace.dataplane.caller import seconds_given
from headrace.dataplane.canary_call import CanaryCall
from headrace.dataplane.plane import DataPlane
from headrace.dataplane.resolve import VERSION_HEADER
from headrace.dataplane.runner_calls import RunnerCalls

__all__ = [
    "VERSION_HEADER",
    "Call",
    "Calls",
    "DataPlane",
    "RunnerCalls",
    "CanaryCall",
    "as_error",
    "seconds_given",
]
