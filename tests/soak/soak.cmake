# Programs that ./dev soak runs for a given number of seconds: build/<preset>/soak_*.
add_executable(soak_engine tests/soak/engine_soak.cpp tests/engine/random_cases.cpp tests/engine/fake_executor.cpp)
target_link_libraries(soak_engine PRIVATE weir_engine GTest::gtest)
add_executable(soak_cached tests/soak/cached_soak.cpp tests/apps/cached_answers.cpp)
target_link_libraries(soak_cached PRIVATE weir_apps GTest::gtest)
target_compile_definitions(soak_cached PRIVATE WEIR_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
