"""Queues keys, so that each key waits until the previous one has taken effect.

Over SSH several keys can arrive in one packet. Textual sends each key to the widget that has the focus on arrival,
but moves the focus some loop iterations after the key that requests it. Without this queue, "/error" and Enter in one
packet would run the actions bound to e, r and o instead of a search.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

_ROUNDS = 3
"""One round for the action, one for the focus change or new screen, one for the new screen's own focus."""
_MAX_WAIT_S = 5.0
"""The longest that a key waits. During a transform a screen may take two seconds to open."""


class KeyQueue:
    """Forwards keys one by one, each after the previous key has taken effect and the shown pane is drawn.

    Keys for which `is_global` is true act on the console itself (such as switching screens) and need no drawn pane.
    """

    def __init__(
        self,
        app: App[None],
        forward: Callable[[events.Key | events.Paste], Awaitable[None]],
        drawn: Callable[[], asyncio.Event],
        is_global: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._forward = forward
        self._drawn = drawn
        self._is_global_key = is_global
        self._waiting: deque[events.Key | events.Paste] = deque()
        self._busy = False

    async def put(self, key: events.Key | events.Paste) -> None:
        """Forward a key or a paste, now or after the queued ones."""
        self._waiting.append(key)
        if not self._busy:
            self._busy = True
            is_text = self._can_act(key) and await self._send_next()
            rest: Callable[[], Awaitable[None]] = partial(self._send_rest, is_text)
            self._app.run_worker(rest, name="keys", group="keys")

    async def _send_rest(self, is_text: bool) -> None:
        try:
            if not is_text:
                await self._wait_until_idle()
            while self._waiting and self._app.screen_stack:
                if not self._can_act(self._waiting[0]):
                    await self._wait_until_drawn()
                if not await self._send_next():
                    await self._wait_until_idle()
        finally:
            self._busy = False

    async def _send_next(self) -> bool:
        """Forward the next key; returns whether it was text input."""
        key = self._waiting.popleft()
        is_text = self._is_text(key)
        await self._forward(key)
        return is_text

    def _is_text(self, key: events.Key | events.Paste) -> bool:
        """Whether the key is text for the focused input; such keys need not wait for each other."""
        name, character = ("a", "a") if isinstance(key, events.Paste) else (key.key, key.character)
        return self._app.focused is not None and self._app.focused.check_consume_key(name, character)

    def _can_act(self, key: events.Key | events.Paste) -> bool:
        if self._drawn().is_set() or self._is_text(key):
            return True
        return isinstance(key, events.Key) and self._is_global_key(key.key)

    async def _wait_until_drawn(self) -> None:
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                await self._drawn().wait()
        except TimeoutError:
            self._app.log.warning("key forwarded before its screen was drawn")
        await self._wait_until_idle()

    async def _wait_until_idle(self) -> None:
        try:
            async with asyncio.timeout(_MAX_WAIT_S):
                for _ in range(_ROUNDS):
                    for node in (self._app.focused or self._app.screen).ancestors_with_self:
                        await _wait_for_messages(node)
        except TimeoutError:
            self._app.log.warning("key forwarded before the previous one took effect")


async def _wait_for_messages(pump: MessagePump) -> None:
    """Wait until the pump has processed all messages queued now."""
    done = asyncio.Event()
    if pump.call_later(done.set):
        await done.wait()
