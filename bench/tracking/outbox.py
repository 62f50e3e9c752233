"""What a run logs goes out beside the work: while the store is away, work goes on, and the figures follow."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

Send = Callable[[], object]


class Outbox:
    """Sends in the order in which it is given, in a thread of its own that ends when there is nothing to send.

    The first failure ends it: what comes later is dropped, and `failure` has the reason.
    """

    def __init__(self) -> None:
        self._due: deque[Send] = deque()
        self._change = threading.Condition()
        self._sending = False
        self.failure: Exception | None = None

    def put(self, send: Send) -> None:
        """Send this when all before it is sent."""
        with self._change:
            if self.failure is not None:
                return
            self._due.append(send)
            if not self._sending:
                self._sending = True
                threading.Thread(target=self._work, name="prunebench outbox", daemon=True).start()

    def drain(self) -> None:
        """Wait until all is sent; raises what sending raised."""
        with self._change:
            while self._sending:
                self._change.wait()
            if self.failure is not None:
                raise self.failure

    def _work(self) -> None:
        while True:
            with self._change:
                if not self._due or self.failure is not None:
                    self._due.clear()
                    self._sending = False
                    self._change.notify_all()
                    return
                send = self._due.popleft()
            try:
                send()
            except Exception as error:
                self.failure = error
