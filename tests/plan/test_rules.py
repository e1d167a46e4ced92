"""Rules against the papers' own layer sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairseq_layerdrop.plan import RULES, PlanError
from fairseq_layerdrop.plan.rules import kept_layers


def dropped(count, how, depth):
    kept = kept_layers("drop", count, how, depth)
    return [i for i in range(depth) if i not in kept]


class TestEveryOther:
    @pytest.mark.parametrize(
        "depth, count, kept",
        [
            (12, 3, [0, 4, 8]),
            (16, 8, [0, 2, 4, 6, 8, 10, 12, 14]),  # fairseq's README
            (6, 3, [0, 2, 4]),
            (6, 6, [0, 1, 2, 3, 4, 5]),
            (6, 4, [0, 1, 3, 4]),
            (5, 1, [0]),
        ],
    )
    def test_keeps(self, depth, count, kept):
        assert list(kept_layers("keep", count, "every_other", depth)) == kept

    @given(step=st.integers(2, 8), groups=st.integers(1, 8))
    def test_is_the_papers_rule(self, step, groups):
        """Pruning rate p = 1/step drops the layers at depth d = 0 (mod 1/p), counted from 1."""
        depth = step * groups
        expected = [i for i in range(depth) if (i + 1) % step]
        assert list(kept_layers("keep", depth - groups, "every_other", depth)) == expected

    def test_drop_is_the_complement_of_keep(self):
        assert kept_layers("drop", 4, "every_other", 16) == kept_layers("keep", 12, "every_other", 16)
        assert dropped(4, "every_other", 16) == [3, 7, 11, 15]


class TestSajjad:
    """Poor Man's BERT, section 2, for 12 layers; the paper counts from 1."""

    @pytest.mark.parametrize(
        "how, sets",
        [
            ("top", {2: [11, 12], 4: [9, 10, 11, 12], 6: [7, 8, 9, 10, 11, 12]}),
            ("bottom", {2: [1, 2], 4: [1, 2, 3, 4], 6: [1, 2, 3, 4, 5, 6]}),
            ("odd_alternate", {2: [9, 11], 4: [5, 7, 9, 11], 6: [1, 3, 5, 7, 9, 11]}),
            ("even_alternate", {2: [10, 12], 4: [6, 8, 10, 12], 6: [2, 4, 6, 8, 10, 12]}),
            ("middle", {2: [6, 7], 4: [5, 6, 7, 8], 6: [4, 5, 6, 7, 8, 9]}),
        ],
    )
    def test_drops(self, how, sets):
        for count, papers in sets.items():
            assert [i + 1 for i in dropped(count, how, 12)] == papers

    def test_odd_depth_alternates_from_its_own_top(self):
        assert dropped(2, "odd_alternate", 5) == [2, 4]
        assert dropped(2, "even_alternate", 5) == [1, 3]

    def test_alternate_runs_out(self):
        with pytest.raises(PlanError, match="at most 6 layers"):
            kept_layers("drop", 7, "odd_alternate", 12)


@given(st.sampled_from(sorted(RULES)), st.integers(1, 40), st.data())
def test_every_rule_names_that_many_layers_in_order(how, depth, data):
    count = data.draw(st.integers(1, depth))
    try:
        layers = RULES[how](count, depth)
    except PlanError:
        assert how.endswith("_alternate") and count > depth // 2
        return
    assert len(layers) == count
    assert list(layers) == sorted(set(layers)) and layers[0] >= 0 and layers[-1] < depth
