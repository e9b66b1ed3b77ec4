# Programs that print what weir computes, for the Python tests beside them to compare with the reference: one per *_dump.cpp.
file(GLOB dumps CONFIGURE_DEPENDS ${CMAKE_CURRENT_LIST_DIR}/*_dump.cpp)
foreach(source ${dumps})
  get_filename_component(program ${source} NAME_WE)
  add_executable(${program} ${source})
  target_link_libraries(${program} PRIVATE weir_text)
endforeach()
