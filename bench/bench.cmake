# bench_model: a whole model in one process, load time, prefill and decode. Kernels: `weir bench kernels`.
add_executable(bench_model bench/model_bench.cpp)
target_link_libraries(bench_model PRIVATE weir_engine weir_runtime)
# bench_verification: two ways to keep a state that guesses may have to leave again.
add_executable(bench_verification bench/verification_bench.cpp)
target_link_libraries(bench_verification PRIVATE weir_ops)
