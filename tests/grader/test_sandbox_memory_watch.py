from __future__ import annotations

import mmap
import os

import pytest

from grader.sandbox import memory_watch

MIB = 1 << 20


@pytest.mark.integration
def test_memory_that_forked_processes_share_counts_once_where_it_matters() -> None:
    kept = b"x" * (64 * MIB)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    try:
        pids = [os.getpid(), child]
        often = memory_watch.used_bytes(pids, {}, limit=1 << 40)
        once = memory_watch.used_bytes(pids, {}, limit=1)
    finally:
        os.close(writing)
        os.close(reading)
        os.waitpid(child, 0)
    assert often - once > 0.9 * len(kept)


def test_memory_of_a_process_that_has_gone_is_none() -> None:
    assert memory_watch.used_bytes([1 << 30], {"/tmp": MIB}, limit=1) == 0


def test_shared_memory_that_is_mapped_and_lies_in_files_counts_once() -> None:
    before = memory_watch.used_bytes([os.getpid()], {}, limit=1 << 40)
    with mmap.mmap(-1, 32 * MIB) as area:
        area.write(b"x" * len(area))
        after = memory_watch.used_bytes([os.getpid()], {}, limit=1 << 40)
    assert after - before > 31 * MIB


def test_file_systems_of_another_size_are_the_machines_own_and_do_not_count() -> None:
    pid = os.getpid()
    assert memory_watch.used_bytes([pid], {"/dev": 12345}, limit=1 << 40) < 10_000 * MIB
    found = os.statvfs("/dev/shm")
    size = found.f_blocks * found.f_frsize
    with open("/dev/shm/boxoffice-test", "wb") as file:
        try:
            file.write(bytes(40 * MIB))
            file.flush()
            without = memory_watch.used_bytes([pid], {"/dev/shm": size + 4096}, limit=1 << 40)
            counted = memory_watch.used_bytes([pid], {"/dev/shm": size}, limit=1 << 40)
        finally:
            os.unlink(file.name)
    assert counted > without
