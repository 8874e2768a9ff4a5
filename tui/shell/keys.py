"""Keys one after the other, however many arrive at once: over a slow line a whole command comes in one packet.

Textual hands a key to whatever has the focus when it arrives, and moves the focus some turns of the loop after the
key that asks for it. So of "/error" and Enter in one packet it would do what e, r and o stand for, and search nothing.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

_ROUNDS = 3
"""A key asks for something, that moves the focus or opens a screen, and the new screen chooses its own."""
_PATIENCE_S = 5.0
"""Whatever takes longer holds no key up; beside a transform, a screen may take two seconds to open."""


class KeyQueue:
    """Keys that wait until what the key before them set off is done, and there is something for them to act on.

    Those of which `is_everywhere` holds act on the console itself, as by going to another screen, and need nothing.
    """

    def __init__(
        self,
        app: App[None],
        hand_on: Callable[[events.Key | events.Paste], Awaitable[None]],
        drawn: Callable[[], asyncio.Event],
        is_everywhere: Callable[[str], bool],
    ) -> None:
        self._app = app
        self._hand_on = hand_on
        self._drawn = drawn
        self._is_everywhere = is_everywhere
        self._waiting: deque[events.Key | events.Paste] = deque()
        self._busy = False

    async def put(self, key: events.Key | events.Paste) -> None:
        """Hand the key, or what is pasted between keys, on: now, or when it is its turn."""
        self._waiting.append(key)
        if not self._busy:
            self._busy = True
            is_text = self._can_act(key) and await self._next()
            rest: Callable[[], Awaitable[None]] = partial(self._rest, is_text)
            self._app.run_worker(rest, name="keys", group="keys")

    async def _rest(self, is_text: bool) -> None:
        try:
            if not is_text:
                await self._settled()
            while self._waiting and self._app.is_running:
                if not self._can_act(self._waiting[0]):
                    await self._something_to_act_on()
                if not await self._next():
                    await self._settled()
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

    def _can_act(self, key: events.Key | events.Paste) -> bool:
        if isinstance(key, events.Paste) or self._drawn().is_set():
            return True
        return self._is_text(key) or self._is_everywhere(key.key)

    async def _something_to_act_on(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._drawn().wait()
        except TimeoutError:
            self._app.log.warning("a key goes on before its screen is drawn")
        await self._settled()

    async def _settled(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                for _ in range(_ROUNDS):
                    for node in (self._app.focused or self._app.screen).ancestors_with_self:
                        await _caught_up(node)
        except TimeoutError:
            self._app.log.warning("a key goes on before the one before it is done")


async def _caught_up(pump: MessagePump) -> None:
    """Wait until it has dealt with every message that it has now."""
    done = asyncio.Event()
    if pump.call_later(done.set):
        await done.wait()
