# bench_kernels: operators against what the machine can do at most, both measured in the same run.
add_executable(bench_kernels bench/kernels_main.cpp bench/kernels_ceiling.cpp bench/kernels_ceiling_avx2.cpp bench/kernels_ceiling_avx512.cpp)
target_link_libraries(bench_kernels PRIVATE weir_ops)
set_source_files_properties(bench/kernels_ceiling_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
set_source_files_properties(bench/kernels_ceiling_avx512.cpp PROPERTIES COMPILE_OPTIONS
  "-mavx512f;-mavx512bw;-mavx512vl;-mavx512dq;-mavx512bf16;-mprefer-vector-width=512")
