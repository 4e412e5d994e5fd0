"""Who may ask, what a request may cost, and the record of it: ASGI middleware, without Ray.

app = guarded(app, spec.access, spec.limits, audit, host=spec.host)
"""

from medray.serve.access.caller import Caller
from medray.serve.access.guard import Guard, guarded

__all__ = ["Caller", "Guard", "guarded"]
