# bench_kernels: operators against what the machine can do at most, both measured in the same run.
add_library(weir_ceilings OBJECT bench/kernels_ceiling.cpp bench/kernels_ceiling_avx2.cpp bench/kernels_ceiling_avx512.cpp)
target_link_libraries(weir_ceilings PUBLIC weir_kernels)
add_executable(bench_kernels bench/kernels_main.cpp)
target_link_libraries(bench_kernels PRIVATE weir_ops weir_ceilings)
# bench_model: a whole model in one process, load time, prefill and decode.
add_executable(bench_model bench/model_bench.cpp)
target_link_libraries(bench_model PRIVATE weir_engine weir_runtime weir_ceilings)
# bench_verification: two ways to keep a state that guesses may have to leave again.
add_executable(bench_verification bench/verification_bench.cpp)
target_link_libraries(bench_verification PRIVATE weir_ops)
set_source_files_properties(bench/kernels_ceiling_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
set_source_files_properties(bench/kernels_ceiling_avx512.cpp PROPERTIES COMPILE_OPTIONS
  "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mprefer-vector-width=512")
