"""mautrix as an appservice that stores what it is sent, durably, before it acknowledges.

Arguments: homeserver, port, database. Its own memory of transactions stays in use; every event goes into SQLite with the settings
that the bridge uses. The handlers of a transaction run one after the other, so the commit is made once, when it ends.
"""

import asyncio
import json
import sqlite3
import sys

from mautrix.appservice import AppService
from mautrix.appservice.state_store import FileASStateStore


class Durable(AppService):
    async def handle_transaction(self, *args, **kwargs):
        result = await super().handle_transaction(*args, **kwargs)
        database.commit()
        return result


homeserver, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
database = sqlite3.connect(path)
database.executescript(
    """PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE event (seq INTEGER PRIMARY KEY, event_id TEXT NOT NULL UNIQUE, room_id TEXT NOT NULL, body TEXT NOT NULL)"""
)


async def store(event):
    database.execute(
        "INSERT OR IGNORE INTO event (event_id, room_id, body) VALUES (?, ?, ?)",
        (event.event_id, event.room_id, json.dumps(event.serialize())),
    )


async def main():
    # It takes the loop that runs when it is made.
    service = Durable(
        homeserver, "vvt", "as", "hs", "bot", "peer",
        loop=asyncio.get_running_loop(), state_store=FileASStateStore(path=path + ".json", binary=False), ephemeral_events=True,
    )  # fmt: skip
    # Its handlers would otherwise run after it has acknowledged.
    service.synchronous_handlers = True
    service.matrix_event_handler(store)
    await service.start("127.0.0.1", port)
    await asyncio.Event().wait()


asyncio.run(main())
