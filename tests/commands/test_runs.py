"""`mlprun runs`: the leaderboard, any time."""

from __future__ import annotations

from tests.helpers.sweeps import FAST


def test_runs_shows_the_leaderboard_any_time(mlprun):
    swept = mlprun("-m", *FAST, "optim.lr=0.1,0.2", "seed=0,1")
    shown = mlprun("runs", "outputs", "--debug")
    assert shown.status == 0
    table = swept.out[swept.out.index("iris") : swept.out.rindex("\nsweep ")]
    assert table.splitlines()[0] in shown.out
    assert "best    mlprun debug=fast data=iris optim.lr=" in shown.out
    assert mlprun("runs").out == "no runs\n4 debug runs left out; --debug includes them\n"
    nothing = mlprun("runs", "nowhere")
    assert nothing.status == 1
    assert "nowhere" in nothing.err
