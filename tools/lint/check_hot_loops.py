"""Innermost loops of dot-product instructions must keep their sums in registers: g++ 12 spills them unless a loop is written with care.

usage: python3 tools/lint/check_hot_loops.py BUILD_DIR     (a release build; needs objdump)
Disassembles the AVX-512 objects and names each innermost loop with at least four dot products that touches a vector on the stack.
"""
import pathlib
import re
import subprocess
import sys

DOT = re.compile(r"\b(vpdpbusds?|vdpbf16ps)\b")
SPILL = re.compile(r"\bvmov\w+\s.*\(%r[sb]p\b.*%[zy]mm|\bvmov\w+\s.*%[zy]mm\d+,.*\(%r[sb]p\b|\b(vpdpbusds?|vdpbf16ps)\b.*\(%r[sb]p\b")
JUMP = re.compile(r"\bj\w+\s+([0-9a-f]+)\b")


def loops(code):
    """(first, last) index of every innermost loop: a jump back without another one inside."""
    place = {address: i for i, (address, _) in enumerate(code)}
    back = sorted((i - place[target], place[target], i) for i, (address, text) in enumerate(code)
                  if (jump := JUMP.search(text)) and (target := int(jump[1], 16)) in place and target <= address)
    inner = []
    for _, first, last in back:
        if not any(first <= f and l <= last for f, l in inner):
            inner.append((first, last))
    return inner


def functions(path):
    listing = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-C", str(path)], check=True, capture_output=True, text=True).stdout
    name, code = None, []
    for line in listing.splitlines():
        if head := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            if code:
                yield name, code
            name, code = head[1], []
        elif instruction := re.match(r"\s+([0-9a-f]+):\s+(.*)$", line):
            code.append((int(instruction[1], 16), instruction[2]))
    if code:
        yield name, code


def main(build):
    checked, bad = 0, 0
    for path in sorted(pathlib.Path(build).glob("CMakeFiles/weir_kernels.dir/weir/kernels/cpu/*_avx512.cpp.o")):
        for name, code in functions(path):
            for first, last in loops(code):
                body = [text for _, text in code[first:last + 1]]
                if sum(bool(DOT.search(text)) for text in body) < 4:
                    continue
                checked += 1
                spills = [text for text in body if SPILL.search(text)]
                if spills:
                    bad += 1
                    print(f"{path.name}: {name[:120]}: {len(spills)} of {len(body)} instructions of a hot loop touch the stack, e.g. {spills[0].strip()}")
    print(f"hot loops: {checked} checked, {bad} with vectors on the stack")
    return 1 if bad or not checked else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
