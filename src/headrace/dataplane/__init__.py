"""The conversation between callers and models, the same for every transport.

`plane` answers what is asked about models, `resolve` finds the one that a request means, `call`
carries a request to it and the answer back, and `observers` see every call.
"""

from headrace.dataplane.call import Call, Calls, as_error
from headrace.dataplane.caller import seconds_given
from headrace.dataplane.plane import DataPlane

__all__ = ["Call", "Calls", "DataPlane", "as_error", "seconds_given"]
