"""Real signals to this very process."""

from __future__ import annotations

import os
import signal

import pytest

from triathlon.training.stopping import stoppable


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_noted_and_handlers_come_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stoppable() as wish:
        assert not wish.to_stop
        os.kill(os.getpid(), number)
        assert wish.to_stop
    assert signal.getsignal(number) is before


def test_a_second_ctrl_c_ends_at_once_but_a_second_sigterm_does_not() -> None:
    with stoppable() as wish:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.to_stop
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_processes_that_learn_together_take_one_ctrl_c_twice() -> None:
    with stoppable(patient=True) as wish:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert wish.to_stop
