# The chat page: weir/server/page/ becomes the source ${CMAKE_BINARY_DIR}/web_page.cpp of the server.
set(page_dir ${CMAKE_SOURCE_DIR}/weir/server/page)
add_custom_command(
  OUTPUT ${CMAKE_BINARY_DIR}/web_page.cpp
  COMMAND ${CMAKE_COMMAND} -DPAGE_DIR=${page_dir} -DOUT=${CMAKE_BINARY_DIR}/web_page.cpp -P ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
  DEPENDS ${page_dir}/index.html ${page_dir}/style.css ${page_dir}/markdown.js ${page_dir}/chat.js cmake/embed_page.cmake
  VERBATIM)
