"""Log requests to the admin API."""

from __future__ import annotations

from twisted.logger import Logger

from gemproxy.core.context import RequestContext
from gemproxy.core.events import RequestListener


class OperatorLog(RequestListener):
    """The admin API's ``RequestListener``: passes failed and refused requests to ``requests``.

    Successful reads are logged at debug, since an open dashboard polls every two seconds; changes
    are audit events.
    """

    _log = Logger(namespace="gemproxy.requests")

    def __init__(self, requests: RequestListener) -> None:
        self._requests = requests

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :meth:`gemproxy.core.events.RequestListener.request_ended`."""
        if status >= 400:
            self._requests.request_ended(context, status, seconds)
            return
        self._log.debug(
            "request finished",
            request_id=context.id,
            route=context.route,
            status=status,
            outcome=context.outcome,
            ms=round(seconds * 1000, 1),
        )
