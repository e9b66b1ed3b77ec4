# test_hot_path counts allocations and locks: it has its own malloc, which sanitizers have too.
if(NOT WEIR_SANITIZE)
  add_executable(test_hot_path tests/hot_path/hot_path_test.cpp tests/hot_path/counting.cpp)
  target_link_libraries(test_hot_path PRIVATE weir_engine weir_runtime GTest::gtest GTest::gtest_main ${CMAKE_DL_LIBS})
  target_compile_definitions(test_hot_path PRIVATE WEIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  add_test(NAME hot_path COMMAND test_hot_path)
endif()
