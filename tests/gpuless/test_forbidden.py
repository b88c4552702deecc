"""Which instructions of compiled PTX the gate takes for a change of the promised bits."""

import pytest

pytest.importorskip("triton")

from measure import _forbidden

ONE, TWO = "mov.b16 \t%rs49, 0x3F80;\n", "mov.b16 \t%rs50, 0x4000;\n"


def test_a_product_with_one_is_a_sum():
    assert _forbidden(ONE + TWO + "\tfma.rn.bf16 \t%rs51, %rs2, %rs49, %rs34;\n", False) == []


@pytest.mark.parametrize("factor", ["%rs50", "%rs4", "%rs490"])
def test_any_other_product_is_fused(factor):
    line = f"\tfma.rn.bf16 \t%rs51, %rs2, {factor}, %rs34;\n"
    assert _forbidden(ONE + TWO + line, False) == ["fma.rn.bf16"]
    assert _forbidden("\tfma.rn.f32 \t%f1, %f2, %f3, %f4;\n", False) == ["fma.rn.f32"]
