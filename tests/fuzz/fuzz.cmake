# libFuzzer targets (clang only): one program fuzz_<name> per <name>_fuzz.cpp, seeds under corpus/<name>/. What they read is built with
# coverage and sanitizers; a finding ends the program. `./dev soak` builds the target `fuzz` and runs each program.
set(WEIR_FUZZ_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
foreach(library base core tensor weights text api)
  get_target_property(kind weir_${library} TYPE)
  if(NOT kind STREQUAL "INTERFACE_LIBRARY")
    target_compile_options(weir_${library} PRIVATE ${WEIR_FUZZ_FLAGS} -fsanitize=fuzzer-no-link -Wno-error)
  endif()
endforeach()

add_custom_target(fuzz)
function(weir_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(fuzz_${name} ${CMAKE_SOURCE_DIR}/tests/fuzz/${name}_fuzz.cpp ${ARG_SOURCES})
  target_compile_options(fuzz_${name} PRIVATE ${WEIR_FUZZ_FLAGS} -fsanitize=fuzzer -Wno-error)
  target_compile_definitions(fuzz_${name} PRIVATE WEIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_link_libraries(fuzz_${name} PRIVATE ${ARG_LINKS})
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined)
  add_dependencies(fuzz fuzz_${name})
endfunction()

weir_fuzz(safetensors LINKS weir_weights)
weir_fuzz(config SOURCES ${CMAKE_SOURCE_DIR}/weir/models/config.cpp LINKS weir_tensor)   # without the kernels that weir_models brings
weir_fuzz(tokenizer LINKS weir_text)
weir_fuzz(template LINKS weir_text)
weir_fuzz(streams LINKS weir_text)
weir_fuzz(requests LINKS weir_api)
weir_fuzz(name_pattern LINKS weir_weights)
weir_fuzz(recipe SOURCES ${CMAKE_SOURCE_DIR}/weir/apps/quantize_recipe.cpp LINKS weir_weights PkgConfig::YAML)   # without the rest of weir_apps
