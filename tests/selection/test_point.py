from fairseq_layerdrop.selection.point import medians


def test_medians_over_rounds():
    assert medians([[1.0, 20.0], [3.0, 60.0]]) == [2.0, 40.0]
    assert medians([[1.0], [7.0], [3.0]]) == [3.0]
