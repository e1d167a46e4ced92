"""What the pictures of a sweep show."""

import pytest
from matplotlib.colors import LogNorm

from fairseq_layerdrop.reports.depths import varying_stacks
from fairseq_layerdrop.reports.sweep_pictures import draw_all, draw_grid
from tests.reports.sweeps import point, sweep


def depths(of_sweep):
    return draw_all(of_sweep)["depths"]


def curves(figure):
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].lines}


class TestDepths:
    def test_a_deeper_encoder_shares_the_axis(self):
        """The encoders stay whole: only the decoders' layers count."""
        points = [
            point(name, layers=(encoder, decoder), of=(encoder, 6), bleu=encoder + decoder)
            for name, encoder in (("6-6", 6), ("12-6", 12))
            for decoder in (6, 3, 1)
        ]
        figure = depths(sweep(*points))
        assert curves(figure) == {"6-6": ([1, 3, 6], [7, 9, 12]), "12-6": ([1, 3, 6], [13, 15, 18])}
        assert figure.axes[0].get_xlabel() == "decoder layers kept"

    def test_both_stacks(self):
        figure = depths(sweep(point(layers=(6, 6)), point(layers=(3, 6)), point(layers=(6, 2))))
        assert curves(figure)["a"][0] == [8, 9, 12]
        assert figure.axes[0].get_xlabel() == "encoder and decoder layers kept"

    def test_what_varies_does_so_within_a_model(self):
        whole = [point("a", layers=(6, 6)), point("b", layers=(12, 6), of=(12, 6))]
        assert varying_stacks(whole) == ("encoder", "decoder")
        assert varying_stacks([*whole, point("b", layers=(12, 3), of=(12, 6))]) == ("decoder",)


class TestGrid:
    def test_each_panel_has_its_own_rows(self):
        points = [
            point(name, layers=(encoder, decoder), of=(depth, 6), bleu=encoder + decoder)
            for name, depth in (("12-6", 12), ("6-6", 6))
            for encoder in range(2, depth + 1, 2)
            for decoder in (3, 6)
        ]
        *panels, _ = draw_grid(sweep(*points)).axes
        for axes, encoders in zip(panels, ([2, 4, 6, 8, 10, 12], [2, 4, 6]), strict=True):
            assert [label.get_text() for label in axes.get_yticklabels()] == [str(number) for number in encoders]
            assert axes.get_ylim() == (-0.5, len(encoders) - 0.5)
            assert axes.images[0].get_array().tolist() == [[number + 3, number + 6] for number in encoders]
        assert [axes.get_ylabel() for axes in panels] == ["encoder layers kept", ""]

    def test_a_broken_plan_leaves_the_others_their_colours(self):
        points = [
            point(layers=(encoder, decoder), loss=1.0, perplexity=perplexity)
            for encoder, decoder, perplexity in ((6, 6, 5.0), (6, 3, 10.0), (3, 6, 20.0), (3, 3, 123456.0))
        ]
        axes, bar = draw_grid(sweep(*points)).axes
        image = axes.images[0]
        assert isinstance(image.norm, LogNorm) and image.norm(10.0) - image.norm(5.0) == pytest.approx(0.0685, abs=1e-3)
        assert {text.get_text() for text in axes.texts} == {"5", "10", "20", "1.23e+05"}
        assert bar.get_ylabel() == "perplexity by token"

    def test_other_scores_are_linear(self):
        points = [point(layers=(encoder, decoder), bleu=encoder * decoder) for encoder in (2, 6) for decoder in (3, 6)]
        axes, _ = draw_grid(sweep(*points)).axes
        assert axes.images[0].norm(21.0) == 0.5 and {text.get_text() for text in axes.texts} >= {"6.0", "36.0"}
