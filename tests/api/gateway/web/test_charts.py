"""Which metadata becomes a chart, and where its points lie."""

from slipway_gateway.web.charts import HEIGHT, MAX_CHARTS, MAX_POINTS, WIDTH, charts_of


def test_numbers_become_charts_over_the_step_and_words_do_not():
    records = [{"_time": "t", "step": n * 10, "loss": str(1 / n), "name": "x", "done": True} for n in (1, 2, 4)]
    [chart] = charts_of(records)
    assert (chart.name, chart.axis, chart.first, chart.last) == ("loss", "step", 10, 40)
    assert (chart.lowest, chart.highest, chart.newest) == (0.25, 1, 0.25)
    assert chart.points.split()[0] == "6.0,6.0"
    assert chart.points.split()[-1] == f"{WIDTH - 6}.0,{HEIGHT - 6}.0"


def test_without_a_step_the_records_are_counted():
    [chart] = charts_of([{"a": 1}, {"b": 0}, {"a": 3}])
    assert (chart.axis, chart.first, chart.last, chart.count) == ("record", 1, 3, 2)


def test_a_flat_series_lies_in_the_middle_and_what_is_no_number_is_left_out():
    [chart] = charts_of([{"a": 5}, {"a": float("nan")}, {"a": "inf"}, {"a": None}, {"a": [1]}, {"a": 5}])
    assert chart.count == 2
    assert {point.split(",")[1] for point in chart.points.split()} == {f"{HEIGHT / 2:.1f}"}


def test_long_series_and_many_keys_are_cut_and_the_newest_point_is_kept():
    records = [{f"k{key}": n for key in range(30)} for n in range(10_001)]
    charts = charts_of(records)
    assert len(charts) == MAX_CHARTS
    assert len(charts[0].points.split()) <= MAX_POINTS + 1
    assert charts[0].points.split()[-1].startswith(f"{WIDTH - 6}.0,")
    assert charts_of([]) == []
