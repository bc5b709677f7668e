"""Which parameters of a test stay in `make test`."""

from itertools import product

import pytest
from sampling import sample

ALGS, ENVS = ("sac", "td3", "ddpg"), ("Ant", "Hopper")
PRODUCT = [f"{alg}-{env}-{flag}]" for alg, env, flag in product(ALGS, ENVS, ("a=1", "b=2"))]


def test_every_value_of_a_product_is_kept():
    kept = [PRODUCT[number] for number in sample(PRODUCT, 3)]
    assert len(kept) == 3
    for value in (*ALGS, *ENVS, "a=1", "b=2"):
        assert any(value in name for name in kept)


def test_every_pair_of_values_is_kept_by_as_many_as_pairs_need():
    kept = [PRODUCT[number] for number in sample(PRODUCT, 7)]
    for one, other in product(ALGS, ENVS):
        assert any(one in name and other in name for name in kept)


def test_few_names_are_all_kept():
    assert sample(["a", "b"], 5) == {0, 1}
    assert sample([], 5) == set()


@pytest.mark.parametrize("number", range(20))
@pytest.mark.sampled(3)
def test_some_of_these_are_slow(number, request):
    kept = sample([f"{one}]" for one in range(20)], 3)
    assert (request.node.get_closest_marker("slow") is None) == (number in kept)
