#!/usr/bin/env python3
"""Holds the sources to the dependency table: the weir_module(... DEPENDS ...) lines of CMakeLists.txt.

    check_includes.py [ROOT]        prints one line per violation and exits 1 when there is any

A module may include itself, what its line names, and what those re-export. Sources compiled for one instruction set
(*_avx2.cpp, *_avx512.cpp, *_amx.cpp) may reach only headers without inline library code: an inline std:: function compiled there could be
the copy that the linker keeps for the whole program, and crash on an older CPU.
"""
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
MODULE = re.compile(r"^\s*weir_module\(\s*(\w+)\s+DEPENDS\s*([^)]*)\)", re.MULTILINE)
ISA_SOURCE = re.compile(r"_(avx2|avx512|amx)\.cpp$")
ISA_HEADERS = {"cstdint", "cstddef", "immintrin.h", "x86intrin.h"}
# Beast costs 25 s per translation unit; it stays behind plain headers in the modules that talk to sockets.
ONLY_IN = {"boost/": {"server", "apps"}}


def read_table(text):
    """{module: every module it may include}, and what is wrong with the table itself."""
    reachable, errors = {}, []
    lines = MODULE.findall(text)
    names = {name for name, _ in lines}
    for name, depends in lines:
        reachable[name] = {name}
        for dependency in depends.split("GENERATED")[0].split():
            if dependency in reachable:
                reachable[name] |= reachable[dependency]
            elif dependency in names:
                errors.append(f"CMakeLists.txt: module {name} depends on {dependency}, which must be declared above it")
    return reachable, errors


def module_of(path):
    return path.split("/")[1] if path.startswith(("weir/", "tests/")) and path.count("/") >= 2 else None


def check_isa_source(path, sources, errors):
    """Follows our own headers, since what they include is compiled for that instruction set as well."""
    seen, queue = {path}, [path]
    while queue:
        current = queue.pop()
        for quoted, angled in INCLUDE.findall(sources.get(current, "")):
            if angled and angled not in ISA_HEADERS:
                errors.append(f"{current}: <{angled}> reaches {path}, which is compiled for one instruction set; allowed there: "
                              f"{', '.join(f'<{h}>' for h in sorted(ISA_HEADERS))} and weir/kernels headers")
            elif quoted and quoted not in seen:
                seen.add(quoted)
                queue.append(quoted)


def check(root):
    reachable, errors = read_table((root / "CMakeLists.txt").read_text())
    if not reachable:
        return ["CMakeLists.txt: no weir_module(... DEPENDS ...) line found"]
    sources = {}
    for folder in ("weir", "tests"):
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".h", ".cpp"):
                sources[str(path.relative_to(root))] = path.read_text()
    for path, text in sources.items():
        module = module_of(path)
        if path.startswith("weir/") and module not in reachable:
            errors.append(f"{path}: module {module} has no weir_module line in CMakeLists.txt")
            continue
        if path.endswith(".h") and "#pragma once" not in text:
            errors.append(f"{path}: no #pragma once")
        for quoted, angled in INCLUDE.findall(text):
            if path.startswith("weir/"):
                for prefix, modules in ONLY_IN.items():
                    if angled.startswith(prefix) and module not in modules:
                        errors.append(f"{path}: <{angled}> belongs in {' and '.join(sorted(modules))} only")
            if not quoted:
                continue
            if path.startswith("weir/") and not quoted.startswith("weir/"):
                errors.append(f'{path}: "{quoted}" must be written from the root, as "weir/…"')
            elif quoted.startswith("weir/") and quoted not in sources:
                errors.append(f'{path}: "{quoted}" does not exist')
            elif quoted.startswith("weir/") and module in reachable and module_of(quoted) not in reachable[module]:
                errors.append(f'{path}: "{quoted}" points upwards or sideways; {module} may include '
                              f"{', '.join(sorted(reachable[module]))}")
        if ISA_SOURCE.search(path):
            check_isa_source(path, sources, errors)
    return sorted(set(errors))


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent.parent)
    errors = check(root)
    print("\n".join(errors) if errors else "include directions: every source keeps to the table")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
