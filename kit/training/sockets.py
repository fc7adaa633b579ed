"""How the processes of one machine talk that train on its CPU: through plain sockets.

A step has dozens of small sums (batch norm's), and gloo, whose threads have to wake each other for every one, takes ten
times as long for it as these (docs/benchmarks.md). All tensors go to the first process, which adds them up, always in
the same order, and sends everybody the same sum.
"""

from __future__ import annotations

import pickle
import socket
import struct
from typing import Protocol

import torch
from torch import Tensor

HERE = "127.0.0.1"
"""Reached from this machine alone."""

LENGTH = struct.Struct("!Q")
"""What goes before a message whose length the other side cannot know."""


class Store(Protocol):
    """What processes have in common before they are connected: one of torch's stores."""

    def set(self, key: str, value: str) -> None:
        """Leaves a value for the others."""

    def get(self, key: str) -> bytes:
        """Waits for a value."""
        ...


class Sockets:
    """A connection between the first process and each of the others. All call the same methods in the same order.

    Every method raises a ConnectionError once another process is gone: the system closes the sockets of one that dies,
    however it dies, so that whoever waits for it learns so at once.

    Args:
        rank: of this process.
        size: number of processes.
        store: where the first one leaves its address for the others.
    """

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size = rank, size
        self._lines = _answer(size - 1, store) if rank == 0 else [_call(rank, store)]

    def add_up(self, x: Tensor) -> None:
        """Makes a contiguous tensor on the CPU the sum over the processes, in place, the same bits in all of them."""
        x = x.detach()
        if self.rank:
            self._lines[0].sendall(_memory(x))
            _receive(self._lines[0], _memory(x))
            return
        theirs = torch.empty_like(x)
        for line in self._lines:
            _receive(line, _memory(theirs))
            x += theirs
        for line in self._lines:
            line.sendall(_memory(x))

    def tell(self, message: object) -> object:
        """The first process's message, in all of them; it waits for nobody, the others wait for it."""
        if self.rank:
            (length,) = LENGTH.unpack(_receive(self._lines[0], memoryview(bytearray(LENGTH.size))))
            return pickle.loads(_receive(self._lines[0], memoryview(bytearray(length))))
        packed = pickle.dumps(message)
        for line in self._lines:
            line.sendall(LENGTH.pack(len(packed)) + packed)
        return message

    def close(self) -> None:
        """Says goodbye."""
        for line in self._lines:
            line.close()


def _answer(others: int, store: Store) -> list[socket.socket]:
    """Connections to the others, in the order of their ranks."""
    with socket.create_server((HERE, 0)) as door:
        store.set("port", str(door.getsockname()[1]))
        return sorted((_at_once(door.accept()[0]) for _ in range(others)), key=lambda line: line.recv(1))


def _call(rank: int, store: Store) -> socket.socket:
    """A connection to the first process."""
    line = _at_once(socket.create_connection((HERE, int(store.get("port")))))
    line.sendall(bytes([rank]))
    return line


def _at_once(line: socket.socket) -> socket.socket:
    """The connection, which sends small messages without waiting for more of them."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def _memory(x: Tensor) -> memoryview:
    """A tensor's bytes."""
    return x.view(-1).view(torch.uint8).numpy().data


def _receive(line: socket.socket, room: memoryview) -> memoryview:
    """Fills a piece of memory."""
    got = 0
    while got < len(room):
        received = line.recv_into(room[got:])
        if not received:
            raise ConnectionResetError("the other process has left")
        got += received
    return room
