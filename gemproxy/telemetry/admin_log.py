"""Log requests to the admin API."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.logger import Logger

if TYPE_CHECKING:
    from gemproxy.core.context import RequestContext
    from gemproxy.core.interfaces import Telemetry


class OperatorLog:
    """The admin API's ``Telemetry``: passes failed and refused requests to ``requests``.

    Successful reads are logged at debug, since an open dashboard polls every two seconds; changes
    are audit events.
    """

    _log = Logger(namespace="gemproxy.requests")

    def __init__(self, requests: Telemetry) -> None:
        self._requests = requests

    def request_ended(self, context: RequestContext, status: int, seconds: float) -> None:
        """See :class:`gemproxy.core.interfaces.Telemetry`."""
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
