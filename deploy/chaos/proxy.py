#!/usr/bin/env python3
"""A TCP proxy that is a bad network: it delays what passes, stalls now and then, and cuts connections.

    worker ──► listen ── delay ± jitter, stalls ──► to (coordinator)
                          └─ cut: both ends are reset, as by a router that forgot them

Needs Python 3.11 and nothing else. What happens to the nth connection follows from the seed; when it happens, from the clock.
Prints one line for each connection, stall and cut.
"""

import argparse
import asyncio
import random
import signal
import socket
import struct

CHUNK = 16 * 1024
# Closing with pending data and no lingering sends RST instead of FIN.
RESET = struct.pack("ii", 1, 0)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--to", required=True, metavar="HOST:PORT")
    parser.add_argument("--seed", type=int, default=1)
    seconds = {"type": float, "metavar": "SECONDS"}
    parser.add_argument("--delay", default=0.0, help="of every piece of data, each way", **seconds)
    parser.add_argument("--jitter", default=0.0, help="mean of what comes on top of it", **seconds)
    parser.add_argument("--cut-every", default=0.0, help="mean life of a connection; 0: never cut", **seconds)
    parser.add_argument("--stall-every", default=0.0, help="mean time between stalls; 0: never", **seconds)
    parser.add_argument("--stall-for", default=1.0, help="mean length of a stall", **seconds)
    return parser.parse_args()


def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def say(*words):
    print(*words, flush=True)


class Connection:
    """One connection: two pumps, one who stalls them, one who cuts them."""

    def __init__(self, settings, number, near, far):
        self.settings, self.number = settings, number
        self.ends = [near, far]
        self.random = random.Random(settings.seed * 1_000_003 + number)
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def pump(self, reader, writer):
        """Carries data one way, in order, each piece late by its own time."""
        while data := await reader.read(CHUNK):
            late = self.settings.delay
            if self.settings.jitter > 0:
                late += self.random.expovariate(1 / self.settings.jitter)
            await asyncio.sleep(late)
            await self.flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    async def stall(self):
        while self.settings.stall_every > 0:
            await asyncio.sleep(self.random.expovariate(1 / self.settings.stall_every))
            length = self.random.expovariate(1 / self.settings.stall_for)
            say(f"connection {self.number}: stalls for {length:.1f} s")
            self.flowing.clear()
            await asyncio.sleep(length)
            self.flowing.set()

    async def cut(self):
        if self.settings.cut_every <= 0:
            await asyncio.Event().wait()
        await asyncio.sleep(self.random.expovariate(1 / self.settings.cut_every))
        say(f"connection {self.number}: cut")
        for _, writer in self.ends:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            writer.transport.abort()

    async def run(self):
        (near_reader, near_writer), (far_reader, far_writer) = self.ends
        pumps = [self.pump(near_reader, far_writer), self.pump(far_reader, near_writer)]
        pumps = [asyncio.create_task(pump) for pump in pumps]
        over = asyncio.create_task(asyncio.wait(pumps))
        cutting, stalling = asyncio.create_task(self.cut()), asyncio.create_task(self.stall())
        try:
            await asyncio.wait([over, cutting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            tasks = [*pumps, over, cutting, stalling]
            for task in tasks:
                task.cancel()
            # Whatever ended a pump (a reset by the other end, our own cut) ends the connection, and is no fault of ours.
            await asyncio.gather(*tasks, return_exceptions=True)
            for _, writer in self.ends:
                writer.close()


async def serve(settings):
    count = 0

    async def accept(reader, writer):
        nonlocal count
        count += 1
        number = count
        try:
            far = await asyncio.open_connection(*address(settings.to))
        except OSError as error:
            say(f"connection {number}: {settings.to} can't be reached: {error}")
            writer.close()
            return
        say(f"connection {number}: from {writer.get_extra_info('peername')[0]}")
        try:
            await Connection(settings, number, (reader, writer), far).run()
        except asyncio.CancelledError:
            pass  # The proxy ends, and its connections with it.

    server = await asyncio.start_server(accept, *address(settings.listen))
    say(f"from {settings.listen} to {settings.to}, seed {settings.seed}")
    # As the first process of a container it has no handlers but those it sets.
    stop = asyncio.Event()
    for kind in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(kind, stop.set)
    async with server:
        await stop.wait()
        server.close()


if __name__ == "__main__":
    asyncio.run(serve(arguments()))
