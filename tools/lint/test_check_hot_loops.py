"""check_hot_loops.py sees a sum on the stack in a loop, and only there."""
import sys
import pathlib

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import check_hot_loops as check

DOTS = ["vpdpbusd (%rax){1to16},%zmm0,%zmm1"] * 4


def lines(*texts):
    return list(enumerate(texts, start=0x10))


def test_an_innermost_loop_is_found_and_an_outer_one_is_not():
    code = lines("xor %eax,%eax", "inc %ebx", *DOTS, "jne 11 <f+0x1>", "inc %ecx", "jne 10 <f>")
    assert check.loops(code) == [(1, 6)]


def test_a_vector_on_the_stack_is_a_spill_and_a_pointer_is_not():
    for text in ("vmovdqu64 %zmm3,0x40(%rsp)", "vmovups 0x80(%rsp),%zmm2", "vpdpbusd 0x40(%rsp),%zmm1,%zmm2"):
        assert check.SPILL.search(text), text
    for text in ("mov 0x40(%rsp),%rax", "vmovdqu64 0x40(%rax),%zmm3", "vpdpbusd (%rcx){1to16},%zmm1,%zmm2"):
        assert not check.SPILL.search(text), text
