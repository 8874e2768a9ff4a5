"""Keys one after the other, however many arrive at once: over a slow line a whole command comes in one packet.

Textual hands a key to whatever has the focus when it arrives, and moves the focus some turns of the loop after the
key that asks for it. So of "/error" and Enter in one packet it would do what e, r and o stand for, and search nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

_ROUNDS = 3
"""A key asks for something, that moves the focus or opens a screen, and the new screen chooses its own."""
_PATIENCE_S = 1.0
"""Whatever takes longer holds no key up."""


class KeyQueue:
    """Keys that wait until what the key before them set off is done, and there is something for them to act on."""

    def __init__(
        self,
        app: App[None],
        hand_on: Callable[[events.Key | events.Paste], Awaitable[None]],
        drawn: Callable[[], asyncio.Event],
    ) -> None:
        self._app = app
        self._hand_on = hand_on
        self._drawn = drawn
        self._waiting: deque[events.Key | events.Paste] = deque()
        self._busy = False

    async def put(self, key: events.Key | events.Paste) -> None:
        """Hand the key, or what is pasted between keys, on: now, or when it is its turn."""
        self._waiting.append(key)
        if not self._busy:
            self._busy = True
            is_text = await self._next()
            self._app.run_worker(self._rest(is_text), name="keys", group="keys")

    async def _rest(self, is_text: bool) -> None:
        try:
            if not is_text:
                await self._done()
            while self._waiting and self._app.is_running:
                if not await self._next():
                    await self._done()
        finally:
            self._busy = False

    async def _next(self) -> bool:
        """Hand the next key on; returns whether it is only written down."""
        key = self._waiting.popleft()
        is_text = self._is_text(key)
        await self._hand_on(key)
        return is_text

    def _is_text(self, key: events.Key | events.Paste) -> bool:
        """Whether it is only written down where it goes: what is pasted as keys goes as fast as it comes."""
        if isinstance(key, events.Paste):
            return True
        return self._app.focused is not None and self._app.focused.check_consume_key(key.key, key.character)

    async def _done(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._settled()
                if not self._drawn().is_set():
                    await self._drawn().wait()
                    await self._settled()
        except TimeoutError:
            self._app.log.warning("a key goes on before the one before it is done")

    async def _settled(self) -> None:
        for _ in range(_ROUNDS):
            for node in (self._app.focused or self._app.screen).ancestors_with_self:
                await _caught_up(node)


async def _caught_up(pump: MessagePump) -> None:
    """Wait until it has dealt with every message that it has now."""
    done = asyncio.Event()
    if pump.call_later(done.set):
        await done.wait()
