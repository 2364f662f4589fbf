"""What answers say about moves."""

from slipway_testing.alias_moves import Move, old_answers


def test_the_last_old_answer_counts_from_the_call_and_late_is_what_was_sent_afterwards() -> None:
    moves = [Move(1.0, 1.02, "v2"), Move(2.0, 2.02, "v1")]
    answers = [
        (0.99, 1.005, "v1"),
        (1.004, 1.009, "v1"),
        (1.01, 1.015, "v2"),
        (2.001, 2.010, "v2"),
        (2.03, 2.031, "v2"),
        (2.04, 2.041, "v1"),
    ]
    last_old, late = old_answers(moves, answers)
    assert [round(one, 3) for one in last_old] == [9.0, 31.0]
    assert late == 1
