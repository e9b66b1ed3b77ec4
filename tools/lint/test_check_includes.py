"""check_includes.py finds what it is for, in a small tree of its own."""
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parent.parent / "check_includes.py"
TABLE = """
weir_module(base    DEPENDS Threads::Threads)
weir_module(core    DEPENDS base)
weir_module(kernels DEPENDS)
weir_module(cache   DEPENDS core)
"""


@pytest.fixture
def check(tmp_path):
    def run(files, table=TABLE):
        (tmp_path / "CMakeLists.txt").write_text(table)
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        result = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True)
        return result.returncode, result.stdout

    return run


BASE = {"weir/base/error.h": "#pragma once\n#include <string>\n"}


def test_a_module_may_include_what_its_dependencies_re_export(check):
    code, _ = check({**BASE, "weir/cache/pool.cpp": '#include "weir/base/error.h"\n'})
    assert code == 0


def test_an_upward_include_is_named_with_what_is_allowed(check):
    code, output = check({"weir/cache/pool.h": "#pragma once\n", "weir/core/ids.cpp": '#include "weir/cache/pool.h"\n'})
    assert code == 1
    assert 'weir/core/ids.cpp: "weir/cache/pool.h" points upwards or sideways; core may include base, core' in output


def test_a_kernel_includes_nothing_of_weir_but_kernels(check):
    code, output = check({**BASE, "weir/kernels/cpu/dot.cpp": '#include "weir/base/error.h"\n'})
    assert code == 1 and "kernels may include kernels" in output


def test_library_code_must_not_reach_an_isa_source_even_through_a_header(check):
    code, output = check({
        "weir/kernels/cpu/vec.h": "#pragma once\n#include <cmath>\n",
        "weir/kernels/cpu/dot_avx2.cpp": '#include <immintrin.h>\n#include "weir/kernels/cpu/vec.h"\n',
    })
    assert code == 1 and "<cmath> reaches weir/kernels/cpu/dot_avx2.cpp" in output


def test_a_dependency_declared_below_its_user_is_an_error(check):
    code, output = check(BASE, TABLE + "weir_module(text DEPENDS api)\nweir_module(api DEPENDS base)\n")
    assert code == 1 and "module text depends on api, which must be declared above it" in output


def test_a_missing_header_guard_and_a_missing_header_are_named(check):
    code, output = check({"weir/base/log.h": "\n", "weir/core/ids.h": '#pragma once\n#include "weir/base/gone.h"\n'})
    assert code == 1 and "weir/base/log.h: no #pragma once" in output and '"weir/base/gone.h" does not exist' in output
