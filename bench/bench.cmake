# bench_model: a whole model in one process, load time, prefill and decode. Kernels: `weir bench kernels`.
add_executable(bench_model bench/model_bench.cpp)
target_link_libraries(bench_model PRIVATE weir_runtime)
