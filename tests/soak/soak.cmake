# Programs that ./dev soak runs for a given number of seconds: build/<preset>/soak_*.
add_executable(soak_engine tests/soak/engine_soak.cpp tests/engine/random_cases.cpp tests/engine/fake_executor.cpp)
target_link_libraries(soak_engine PRIVATE weir_engine GTest::gtest)
