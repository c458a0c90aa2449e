"""Flow control of a connection that may have to wait for others."""

from __future__ import annotations

from uvicorn.protocols.http.flow_control import FlowControl


class Flow(FlowControl):
    """Reads no more while it is held back, whatever the application asks for."""

    _is_held_back = False

    def hold_back(self) -> None:
        """Read nothing more."""
        self._is_held_back = True
        self.pause_reading()

    def let_go(self) -> None:
        """Read on."""
        self._is_held_back = False
        if not self._transport.is_closing():
            self.resume_reading()

    def resume_reading(self) -> None:
        if not self._is_held_back:
            super().resume_reading()
