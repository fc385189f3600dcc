"""Requests to stop wait for what must be whole, and come right after."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest

from mlprun import signals


@pytest.fixture
def installed():
    numbers = (*signals.REQUESTS, signal.SIGURG, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    signals.install()
    yield
    signals.install()
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def stops(by: str):
    """The block is ended by that request."""
    with pytest.raises(signals.Stop) as caught:
        yield
    assert str(caught.value) == by


def stay() -> None:
    """Be broken off."""
    time.sleep(5)
    pytest.fail("it was not")


def test_a_request_waits_for_the_outermost_block(installed):
    done = []
    with stops("SIGTERM"), signals.deferred:
        with signals.deferred:
            signal.raise_signal(signal.SIGTERM)
            done.append(1)
        done.append(2)
    assert done == [1, 2]
    with stops("SIGTERM"), signals.deferred:  # somebody may have swallowed the first
        pass


@pytest.mark.parametrize("number", signals.REQUESTS, ids=lambda number: number.name)
def test_each_request_stops_and_has_the_exit_status_of_a_shell(installed, number):
    with stops(number.name):
        signal.raise_signal(number)
        stay()
    assert signals.exit_status(number.name) == 128 + number


def test_earlier_handlers_are_called_in_the_order_of_the_signals_and_only_when_asked_for(installed):
    called = []
    for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR2):
        signal.signal(number, lambda number, _: called.append(number))
    for _ in range(2):  # as the command line and the run do
        signals.install()
    with stops("SIGUSR2"), signals.deferred:
        for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR2):
            signal.raise_signal(number)
        assert called == []
    signals.call_earlier_handlers()
    assert called == [signal.SIGUSR2, signal.SIGTERM]


def test_the_blocks_own_error_goes_first(installed):
    def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), signals.deferred:
        fail()


class Dying:
    done = False

    def __del__(self):
        Dying.done = be_asked()


def be_asked() -> bool:
    signal.raise_signal(signal.SIGTERM)
    time.sleep(0.1)
    return True


def test_a_destructor_ends_first(installed):
    Dying.done = False
    with stops("SIGTERM"):
        Dying()
        stay()
    assert Dying.done


def test_a_librarys_lock_is_taken_first(installed):
    entered = False
    be_asked = partial(signal.raise_signal, signal.SIGTERM)
    lock = SimpleNamespace(__enter__=be_asked, __exit__=lambda *_: None, acquire=None, release=None)
    with stops("SIGTERM"), threading.Condition(lock):
        entered = True
        stay()
    assert entered


@pytest.mark.parametrize("name", ["detach", "acquire", "release", "__enter__", "__exit__", "_launch"])
def test_a_users_function_is_broken_off_whatever_its_name(installed, name):
    namespace = dict(globals())
    exec(f"def {name}():\n    signal.raise_signal(signal.SIGTERM)\n    stay()", namespace)
    with stops("SIGTERM"):
        namespace[name]()


def test_what_would_be_lost_comes_right_after(installed):
    done = False
    with stops("SIGTERM"):
        with signals.finalizing:
            signal.raise_signal(signal.SIGTERM)
            done = True
        stay()
    assert done


def test_an_import_ends_first(installed, tmp_path, monkeypatch):
    (tmp_path / "asking_module.py").write_text(f"from {__name__} import be_asked\nbe_asked()\ndone = be_asked()\n")
    monkeypatch.syspath_prepend(tmp_path)
    with stops("SIGTERM"):
        importlib.import_module("asking_module")
        stay()
    assert sys.modules.pop("asking_module").done
    time.sleep(0.2)  # asked twice, it stops once


def test_a_limit_leaves_nothing_behind_its_block(installed):
    """However close its end and the block's come together."""
    stopped = 0
    for number in range(200):
        seconds = 0.001 + number % 10 * 1e-4
        try:
            with signals.after(seconds):
                time.sleep(0.0014)
        except signals.Stop:
            stopped += 1
            signals.install()
        assert signals.stop_requested_by() == ""
    time.sleep(0.01)
    assert 0 < stopped < 200


def test_a_signal_goes_before_a_limit(installed):
    with stops("SIGTERM"), signals.after(0.01), signals.deferred:
        time.sleep(0.05)
        assert signals.stop_requested_by() == signals.MAX_TIME
        signal.raise_signal(signal.SIGTERM)


def test_a_limit_of_a_job_in_a_thread_stops_that_at_a_safe_place(installed):
    found = []

    def job() -> None:
        try:
            with signals.after(0.01):
                for _ in range(5000):
                    with signals.deferred:
                        time.sleep(0.001)
        except signals.Stop as stop:
            found.append(str(stop))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    assert found == [signals.MAX_TIME]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_forked_from_it_just_ends(installed, number):
    pid = os.fork()
    if pid == 0:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -number


def test_nobody_need_be_there_to_hear_that_it_stops(installed, monkeypatch):
    def closed(*_):
        raise OSError

    monkeypatch.setattr(os, "write", closed)
    done = False
    with stops("SIGINT"), signals.deferred:
        signal.raise_signal(signal.SIGINT)
        done = True
    assert done


@pytest.mark.parametrize(
    ("code", "status"),
    [
        # Python would take a KeyboardInterrupt that passes through `exec` for its own end, by SIGINT
        ("try: exec('os.kill(os.getpid(), 15); time.sleep(5)')\nexcept KeyboardInterrupt: sys.exit(143)", 143),
        ("atexit.register(lambda: os.kill(os.getpid(), 15)); sys.argv[1:] = ['--version']; cli.main()", 0),
    ],
    ids=["exec", "too late"],
)
def test_how_python_ends(code, status):
    begin = "import atexit, os, sys, time\nfrom mlprun import signals\n"
    begin += "from mlprun.cli import main as cli\nsignals.install()\n"
    done = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (status, "")
